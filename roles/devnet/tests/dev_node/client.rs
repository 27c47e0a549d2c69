//! A farmer's end of the WebSocket that hides nothing: it shows every message as it came.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use jsonrpsee::client_transport::ws::{Url, WsHandshakeError, WsTransportClientBuilder};
use jsonrpsee::core::client::{ReceivedMessage, TransportReceiverT, TransportSenderT};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long the node may take for anything but archiving.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    requests: mpsc::UnboundedSender<String>,
    messages: mpsc::UnboundedReceiver<Value>,
    notifications: VecDeque<Value>,
    next_id: u64,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    pub async fn try_connect(address: SocketAddr) -> Result<Self, WsHandshakeError> {
        let url = Url::parse(&format!("ws://{address}")).unwrap();
        let (mut sender, mut receiver) = WsTransportClientBuilder::default().build(url).await?;
        let (requests, mut to_send) = mpsc::unbounded_channel::<String>();
        let (received, messages) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(request) = to_send.recv().await {
                sender.send(request).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok(message) = receiver.receive().await {
                if let ReceivedMessage::Text(text) = message {
                    let _ = received.send(serde_json::from_str(&text).unwrap());
                }
            }
        });
        Ok(Self { requests, messages, notifications: VecDeque::new(), next_id: 0 })
    }

    /// The whole answer.
    pub async fn answer(&mut self, method: &str, params: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.requests.send(request.to_string()).unwrap();
        loop {
            let message = self.message(PATIENCE).await.expect("an answer");
            if message["id"] == json!(id) {
                return message;
            }
            self.notifications.push_back(message);
        }
    }

    /// The result of a request that must succeed.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        let mut answer = self.answer(method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// Code and text of the error of a request that must fail.
    pub async fn error(&mut self, method: &str, params: Value) -> (i64, String) {
        let answer = self.answer(method, params).await;
        let error = &answer["error"];
        (error["code"].as_i64().expect(method), error["message"].as_str().unwrap().to_owned())
    }

    /// The next notification, waiting for it.
    pub async fn notification(&mut self) -> Value {
        self.notification_within(PATIENCE).await.expect("a notification")
    }

    /// The newest notification, waiting for one if there is none; those before it are lost.
    pub async fn newest_notification(&mut self) -> Value {
        let mut newest = self.notification().await;
        while let Some(newer) = self.notification_within(Duration::ZERO).await {
            newest = newer;
        }
        newest
    }

    pub async fn notification_within(&mut self, patience: Duration) -> Option<Value> {
        match self.notifications.pop_front() {
            Some(notification) => Some(notification),
            None => self.message(patience).await,
        }
    }

    async fn message(&mut self, patience: Duration) -> Option<Value> {
        timeout(patience, self.messages.recv()).await.ok().flatten()
    }
}
