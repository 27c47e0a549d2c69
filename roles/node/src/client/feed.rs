//! A subscription that outlives connections.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;
use jsonrpsee::core::ClientError;
use jsonrpsee::core::client::Subscription;
use jsonrpsee::ws_client::WsClient;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{Backoff, Connection, NodeClient, NodeError};
use crate::TOO_MANY_SUBSCRIPTIONS_CODE;

type Subscribe<T> = fn(Arc<WsClient>) -> BoxFuture<'static, Result<Subscription<T>, ClientError>>;

/// What a feed says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedEvent<T> {
    /// The subscription holds from now on; what came before may have been missed.
    Began,
    /// The subscription does not hold any more; it is being made anew.
    Lost,
    /// A notification.
    Item(T),
}

/// Notifications of one kind, over all restarts of the node.
#[derive(Debug)]
pub struct Feed<T> {
    node: NodeClient,
    method: &'static str,
    /// Silence after which the subscription is made anew: a node drops slow subscribers without a word.
    silence_max: Duration,
    subscribe: Subscribe<T>,
    /// The subscription that holds, and the connection that it is made over.
    subscription: Option<(Subscription<T>, Connection)>,
    heard_at: Instant,
}

impl<T: DeserializeOwned + Debug> Feed<T> {
    pub(super) fn new(
        node: &NodeClient,
        method: &'static str,
        silence_max: Duration,
        subscribe: Subscribe<T>,
    ) -> Self {
        let (node, heard_at) = (node.clone(), Instant::now());
        Self { node, method, silence_max, subscribe, subscription: None, heard_at }
    }

    /// The connection of the subscription that holds; none between [`FeedEvent::Lost`] and [`FeedEvent::Began`].
    pub fn connection(&self) -> Option<&Connection> {
        self.subscription.as_ref().map(|(_, connection)| connection)
    }

    /// All events from now on, each with the connection of its subscription, for who waits for other things beside: unlike that of
    /// [`Feed::next`], a subscription that takes its time to be made is not begun again each time.
    pub fn into_stream(self) -> impl Stream<Item = (FeedEvent<T>, Option<Connection>)> {
        futures::stream::unfold(self, async |mut feed| {
            let event = feed.next().await;
            let connection = feed.connection().cloned();
            Some(((event, connection), feed))
        })
    }

    /// The next event, however long it takes. Can be dropped and called again without loss.
    pub async fn next(&mut self) -> FeedEvent<T> {
        loop {
            let Some((subscription, _)) = &mut self.subscription else {
                self.subscribe().await;
                return FeedEvent::Began;
            };
            match timeout_at(self.heard_at + self.silence_max, subscription.next()).await {
                Ok(Some(Ok(item))) => {
                    self.heard_at = Instant::now();
                    return FeedEvent::Item(item);
                }
                Ok(Some(Err(error))) => {
                    self.heard_at = Instant::now();
                    tracing::warn!(method = self.method, %error, "a notification of the node cannot be read");
                }
                // Ended, overrun or silent.
                Ok(None) | Err(_) => {
                    self.subscription = None;
                    return FeedEvent::Lost;
                }
            }
        }
    }

    async fn subscribe(&mut self) {
        let mut refusals = Backoff::new();
        loop {
            let connection = self.node.connected().await;
            match (self.subscribe)(connection.client.clone()).await {
                Ok(subscription) => {
                    self.heard_at = Instant::now();
                    self.subscription = Some((subscription, connection));
                    return;
                }
                Err(error) => {
                    let error = NodeError::of_call(&connection.url, self.method, error);
                    // Lost once more: what is wrong shows at the next connection. Refused: it may stay so.
                    if error.is_outcome_unknown() {
                        sleep(Backoff::FIRST).await;
                    } else {
                        tracing::warn!("{error}");
                        if matches!(error, NodeError::Refused { code: TOO_MANY_SUBSCRIPTIONS_CODE, .. }) {
                            // Those given up while the node was slow count until it has heard of that: a new connection has none.
                            self.node.leave(&connection).await;
                        }
                        refusals.failed(Instant::now());
                        sleep_until(refusals.retry_at()).await;
                    }
                }
            }
        }
    }
}
