//! Subscriptions that outlive connections, and which there are.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use jsonrpsee::core::ClientError;
use jsonrpsee::core::client::Subscription;
use jsonrpsee::ws_client::WsClient;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Backoff, Connection, NodeClient, NodeError};
use crate::{NodeRpcClient, RewardSigning, SegmentHeaderJson, SlotInfo, TOO_MANY_SUBSCRIPTIONS_CODE};

/// A slot a second: without any for this long the subscription is lost.
const SLOT_SILENCE_MAX: Duration = Duration::from_secs(15);
/// The node drops a slow subscriber without a word, so the quiet feeds are subscribed anew now and then.
const QUIET_SILENCE_MAX: Duration = Duration::from_secs(60);

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

/// What a feed makes of silence: a node drops slow subscribers without a word.
#[derive(Debug, Clone, Copy)]
pub(super) enum Silence {
    /// After so much of it the subscription does not hold any more.
    Lost(Duration),
    /// It is usual; after so much of it another subscription is made, and the old one is kept until that one holds.
    Renewed(Duration),
}

/// A subscription, and the connection that it is made over.
type Held<T> = (Subscription<T>, Connection);

/// Notifications of one kind, over all restarts of the node.
pub struct Feed<T> {
    node: NodeClient,
    method: &'static str,
    silence: Silence,
    subscribe: Subscribe<T>,
    /// The subscription that holds.
    subscription: Option<Held<T>>,
    /// The one that is being made. It lives here, so that a reader that turns to something else meanwhile does not break it off.
    successor: Option<BoxFuture<'static, Held<T>>>,
    /// What an old subscription had heard when its successor stood; then that one began.
    left_over: VecDeque<FeedEvent<T>>,
    heard_at: Instant,
}

impl NodeClient {
    /// Slots as they begin.
    pub fn slots(&self) -> Feed<SlotInfo> {
        Feed::new(self, "subspace_subscribeSlotInfo", Silence::Lost(SLOT_SILENCE_MAX), |client| {
            Box::pin(async move { client.subscribe_slot_info().await })
        })
    }

    /// Hashes to be signed.
    pub fn reward_signings(&self) -> Feed<RewardSigning> {
        Feed::new(self, "subspace_subscribeRewardSigning", Silence::Renewed(QUIET_SILENCE_MAX), |client| {
            Box::pin(async move { client.subscribe_reward_signing().await })
        })
    }

    /// Headers of new segments. Each wants to be acknowledged.
    pub fn archived_segment_headers(&self) -> Feed<SegmentHeaderJson> {
        Feed::new(
            self,
            "subspace_subscribeArchivedSegmentHeader",
            Silence::Renewed(QUIET_SILENCE_MAX),
            |client| Box::pin(async move { client.subscribe_archived_segment_header().await }),
        )
    }
}

impl<T: DeserializeOwned + Debug + Send + 'static> Feed<T> {
    pub(super) fn new(
        node: &NodeClient,
        method: &'static str,
        silence: Silence,
        subscribe: Subscribe<T>,
    ) -> Self {
        let (node, heard_at, left_over) = (node.clone(), Instant::now(), VecDeque::new());
        Self { node, method, silence, subscribe, subscription: None, successor: None, left_over, heard_at }
    }

    /// The connection of the subscription that holds; none between [`FeedEvent::Lost`] and [`FeedEvent::Began`].
    pub fn connection(&self) -> Option<&Connection> {
        self.subscription.as_ref().map(|(_, connection)| connection)
    }

    /// All events from now on, each with the connection of its subscription.
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
            if let Some(event) = self.left_over.pop_front() {
                return event;
            }
            let Some((subscription, _)) = &mut self.subscription else {
                self.subscription = Some(self.made().await);
                (self.successor, self.heard_at) = (None, Instant::now());
                return FeedEvent::Began;
            };
            let silent = async {
                match (&mut self.successor, self.silence) {
                    (Some(successor), _) => Some(successor.await),
                    (None, Silence::Lost(after) | Silence::Renewed(after)) => {
                        sleep_until(self.heard_at + after).await;
                        None
                    }
                }
            };
            let heard = tokio::select! {
                biased;
                heard = subscription.next() => Ok(heard),
                made = silent => Err(made),
            };
            match heard {
                Ok(Some(Ok(item))) => {
                    self.heard_at = Instant::now();
                    return FeedEvent::Item(item);
                }
                Ok(Some(Err(error))) => {
                    self.heard_at = Instant::now();
                    tracing::warn!(method = self.method, %error, "a notification of the node cannot be read");
                }
                // Ended, or overrun.
                Ok(None) => return self.lost(),
                Err(Some(made)) => self.succeed(made),
                Err(None) => match self.silence {
                    Silence::Lost(_) => return self.lost(),
                    Silence::Renewed(_) => self.successor = Some(self.subscribe()),
                },
            }
        }
    }

    fn lost(&mut self) -> FeedEvent<T> {
        self.subscription = None;
        FeedEvent::Lost
    }

    /// Another subscription takes the place of the one that was silent for long, which is heard out first.
    fn succeed(&mut self, made: Held<T>) {
        let old = self.subscription.replace(made);
        (self.successor, self.heard_at) = (None, Instant::now());
        if let Some((mut old, _)) = old {
            while let Some(Some(Ok(item))) = old.next().now_or_never() {
                self.left_over.push_back(FeedEvent::Item(item));
            }
        }
        self.left_over.push_back(FeedEvent::Began);
    }

    async fn made(&mut self) -> Held<T> {
        if self.successor.is_none() {
            self.successor = Some(self.subscribe());
        }
        match &mut self.successor {
            Some(successor) => successor.await,
            None => pending().await,
        }
    }

    fn subscribe(&self) -> BoxFuture<'static, Held<T>> {
        subscribe(self.node.clone(), self.method, self.subscribe).boxed()
    }
}

/// Subscribes, however long it takes.
async fn subscribe<T: Send>(node: NodeClient, method: &'static str, subscribe: Subscribe<T>) -> Held<T> {
    let mut refusals = Backoff::new();
    loop {
        let connection = node.connected().await;
        match subscribe(connection.client.clone()).await {
            Ok(subscription) => return (subscription, connection),
            Err(error) => {
                let error = NodeError::of_call(&connection.url, method, error);
                // Lost once more: what is wrong shows at the next connection. Refused: it may stay so.
                if error.is_outcome_unknown() {
                    sleep(Backoff::FIRST).await;
                } else {
                    tracing::warn!("{error}");
                    if matches!(error, NodeError::Refused { code: TOO_MANY_SUBSCRIPTIONS_CODE, .. }) {
                        // Those given up while the node was slow count until it has heard of that: a new connection has none.
                        node.leave(&connection).await;
                    }
                    refusals.failed(Instant::now());
                    sleep_until(refusals.retry_at()).await;
                }
            }
        }
    }
}
