//! Who wants to hear of something. A subscriber that does not keep up is dropped: nobody else waits for it.

use std::sync::{Arc, Mutex};

use jsonrpsee::PendingSubscriptionSink;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::mpsc;

/// Notifications that wait for a subscriber's connection.
const QUEUED_MAX: usize = 16;

/// Tells subscriptions apart.
pub type SubscriberId = u64;

/// The subscribers of one kind of notification.
#[derive(Debug)]
pub struct Subscribers {
    list: Mutex<List>,
    queued_max: usize,
}

impl Default for Subscribers {
    fn default() -> Self {
        Self::with_queues(QUEUED_MAX)
    }
}

#[derive(Debug, Default)]
struct List {
    next_id: SubscriberId,
    queues: Vec<(SubscriberId, mpsc::Sender<Arc<RawValue>>)>,
}

impl Subscribers {
    /// Subscribers for each of whom so many notifications may wait.
    pub fn with_queues(queued_max: usize) -> Self {
        Self { list: Mutex::default(), queued_max }
    }

    /// Tells everybody, without waiting. Gives those who will hear of it.
    pub fn publish(&self, notification: &impl Serialize) -> Vec<SubscriberId> {
        let json: Arc<RawValue> = to_raw_value(notification).expect("plain data makes JSON").into();
        let mut list = self.list.lock().expect("holders of this lock do not panic");
        list.queues.retain(|(id, queue)| match queue.try_send(Arc::clone(&json)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(subscription = id, "a subscriber does not keep up and is dropped");
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
        list.queues.iter().map(|(id, _)| *id).collect()
    }

    /// Accepts a subscription and passes notifications on until one side ends it. Gives its id, none when it did not begin.
    pub async fn serve(&self, pending: PendingSubscriptionSink) -> Option<SubscriberId> {
        let sink = pending.accept().await.ok()?;
        let (id, mut queue) = self.subscribe();
        loop {
            let notification = tokio::select! {
                () = sink.closed() => break,
                notification = queue.recv() => notification,
            };
            let Some(json) = notification else { break };
            let json: Box<RawValue> = (*json).to_owned();
            if sink.send(json).await.is_err() {
                break;
            }
        }
        Some(id)
    }

    /// Somebody within this process.
    pub fn subscribe(&self) -> (SubscriberId, mpsc::Receiver<Arc<RawValue>>) {
        let (sender, receiver) = mpsc::channel(self.queued_max);
        let mut list = self.list.lock().expect("holders of this lock do not panic");
        let id = list.next_id;
        list.next_id += 1;
        list.queues.push((id, sender));
        (id, receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_ones_are_dropped_and_gone_ones_forgotten() {
        let subscribers = Subscribers::default();
        assert!(subscribers.publish(&0).is_empty());
        let (slow, _unread) = subscribers.subscribe();
        let (gone, queue) = subscribers.subscribe();
        let (quick, mut read) = subscribers.subscribe();
        assert_eq!(subscribers.publish(&0), [slow, gone, quick]);
        drop(queue);
        for number in 0..QUEUED_MAX {
            assert_eq!(read.try_recv().unwrap().get(), number.to_string());
            let expected = if number + 1 < QUEUED_MAX { vec![slow, quick] } else { vec![quick] };
            assert_eq!(subscribers.publish(&(number + 1)), expected);
        }
    }
}
