//! Real nats-servers with JetStream that are one NATS cluster on loopback; each can be killed and started again.

use crate::nats_server::NatsServer;
use std::net::TcpListener;

pub struct NatsCluster {
    pub servers: Vec<NatsServer>,
}

impl NatsCluster {
    /// So many servers, linked by routes. They elect their leaders while the test goes on.
    pub fn start(count: usize) -> Self {
        // Held until all are known, so that no two are the same.
        let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(held);
        let routes: Vec<_> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let routes = routes.join(", ");
        let config = |(index, port): (usize, &u16)| {
            format!(
                "server_name: n{index}\njetstream {{ store_dir: STORE }}\n\
                 cluster {{ name: test, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}"
            )
        };
        let servers =
            ports.iter().enumerate().map(config).map(|config| NatsServer::start_with(&config)).collect();
        Self { servers }
    }

    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::url).collect()
    }

    /// Which server is called so in answers of NATS.
    pub fn index_of(&self, name: &str) -> usize {
        name.strip_prefix('n').and_then(|index| index.parse().ok()).unwrap()
    }
}
