//! Which of this machine's addresses NATS sees.

use super::connection::parse_servers;
use crate::BusError;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokio::net::{UdpSocket, lookup_host};

/// The address this machine uses towards the first of `servers` it has a route to: others reach it there, as NATS does.
/// Loopback only when that server is on this machine. Nothing is sent, so the server need not run.
pub async fn local_address(servers: &[String]) -> Result<IpAddr, BusError> {
    let mut reason = String::from("none is named");
    for server in parse_servers(servers)? {
        match address_towards(server.host(), server.port()).await {
            Ok(address) => return Ok(address),
            Err(error) => {
                reason = format!("no route to {}: {error}; --advertise names the address", server.host());
            }
        }
    }
    Err(BusError::NoServer { servers: servers.join(", "), reason })
}

async fn address_towards(host: &str, port: u16) -> io::Result<IpAddr> {
    // As URLs write IPv6.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let server = lookup_host((host, port)).await?.next().ok_or(io::ErrorKind::NotFound)?;
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // For UDP this only chooses the route.
    socket.connect(server).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_for_loopback_and_errors_name_the_flag() {
        let of = |server: &str| {
            let servers = vec![server.to_owned()];
            async move { local_address(&servers).await }
        };
        assert_eq!(of("nats://127.0.0.1:4222").await.unwrap(), Ipv4Addr::LOCALHOST);
        assert!(of("nats://user:secret@localhost").await.unwrap().is_loopback());
        let error = of("nats://no-such-host.invalid:4222").await.unwrap_err();
        assert!(error.to_string().contains("--advertise"), "{error}");
        assert!(local_address(&[]).await.is_err());
    }
}
