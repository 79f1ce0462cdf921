//! Cloud-to-device messages: the queue that each device has.
//!
//! Source: Microsoft Learn, "Send cloud-to-device messages from an IoT hub" (message life cycle).
//! A message is enqueued, locked while a device has it, and completed by the device's PUBACK; when
//! the connection ends first it goes back to the queue.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::feedback::Fate;

/// Most messages that may wait for one device; the next is refused with 403004.
pub const MAX_DEPTH: usize = 50;

/// How often a message is delivered before it is given up (IoT Hub's default, `maxDeliveryCount`).
pub const MAX_DELIVERIES: u32 = 10;

/// Largest body.
pub const MAX_BODY: usize = 64 * 1024;

/// A cloud-to-device message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct C2dMessage {
    /// `message-id`, as the sender gave it.
    pub message_id: Option<String>,
    /// `to`, as the sender gave it.
    pub to: String,
    /// `correlation-id`.
    pub correlation_id: Option<String>,
    /// `user-id`.
    pub user_id: Option<String>,
    /// `content-type`.
    pub content_type: Option<String>,
    /// `content-encoding`.
    pub content_encoding: Option<String>,
    /// `absolute-expiry-time`; Unix milliseconds.
    pub expires: Option<i64>,
    /// Application properties, `iothub-ack` among them.
    pub properties: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// The queue holds [`MAX_DEPTH`] messages already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("queue is full")]
pub struct QueueFull;

/// Names a message while a session holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockToken(u64);

#[derive(Debug)]
struct Queued {
    token: LockToken,
    message: C2dMessage,
    holder: Option<u64>,
    deliveries: u32,
}

/// One device's queue.
#[derive(Debug, Default)]
pub struct C2dQueue {
    queued: VecDeque<Queued>,
    next: u64,
    /// Gone without having been completed, until somebody asks.
    fallen: Vec<(C2dMessage, Fate)>,
}

impl C2dQueue {
    /// Enqueues; `now` in Unix milliseconds.
    ///
    /// # Errors
    /// [`QueueFull`]. Messages that a device holds but has not completed count.
    pub fn push(&mut self, message: C2dMessage, now: i64) -> Result<(), QueueFull> {
        self.expire(now);
        if self.queued.len() >= MAX_DEPTH {
            return Err(QueueFull);
        }
        self.next += 1;
        self.queued.push_back(Queued {
            token: LockToken(self.next),
            message,
            holder: None,
            deliveries: 0,
        });
        Ok(())
    }

    /// Locks the oldest message that nobody holds, for `session`.
    pub fn lock_next(&mut self, session: u64, now: i64) -> Option<(LockToken, C2dMessage)> {
        self.expire(now);
        let queued = self
            .queued
            .iter_mut()
            .find(|queued| queued.holder.is_none())?;
        queued.holder = Some(session);
        queued.deliveries += 1;
        Some((queued.token, queued.message.clone()))
    }

    /// Takes the message out, if `session` still holds it.
    pub fn complete(&mut self, session: u64, token: LockToken) -> Option<C2dMessage> {
        let index = self
            .queued
            .iter()
            .position(|queued| queued.token == token && queued.holder == Some(session))?;
        self.queued.remove(index).map(|queued| queued.message)
    }

    /// Gives back what sessions held; what has been delivered too often is dropped.
    pub fn release_all(&mut self) {
        for queued in &mut self.queued {
            queued.holder = None;
        }
        self.drop_if(Fate::DeliveryCountExceeded, |queued| {
            queued.deliveries >= MAX_DELIVERIES
        });
    }

    /// Drops everything; gives how many.
    pub fn purge(&mut self) -> usize {
        let count = self.queued.len();
        self.drop_if(Fate::Purged, |_| true);
        count
    }

    /// Drops what nobody holds and is too old.
    pub fn expire(&mut self, now: i64) {
        self.drop_if(Fate::Expired, |queued| {
            queued.holder.is_none() && queued.message.expires.is_some_and(|at| at <= now)
        });
    }

    /// What has gone without having been completed since this was last asked.
    pub fn fallen(&mut self) -> Vec<(C2dMessage, Fate)> {
        std::mem::take(&mut self.fallen)
    }

    fn drop_if(&mut self, fate: Fate, which: impl Fn(&Queued) -> bool) {
        let fallen = &mut self.fallen;
        self.queued.retain(|queued| {
            let goes = which(queued);
            if goes {
                fallen.push((queued.message.clone(), fate));
            }
            !goes
        });
    }

    /// How many wait or are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queued.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: usize, expires: Option<i64>) -> C2dMessage {
        C2dMessage {
            message_id: Some(id.to_string()),
            to: "/devices/d/messages/devicebound".into(),
            correlation_id: None,
            user_id: None,
            content_type: None,
            content_encoding: None,
            expires,
            properties: Vec::new(),
            body: Bytes::new(),
        }
    }

    fn full() -> C2dQueue {
        let mut queue = C2dQueue::default();
        for id in 0..MAX_DEPTH {
            queue.push(message(id, None), 0).unwrap();
        }
        queue
    }

    #[test]
    fn the_fifty_first_is_refused_until_one_completes() {
        let mut queue = full();
        assert_eq!(queue.push(message(50, None), 0), Err(QueueFull));
        let (token, _) = queue.lock_next(1, 0).unwrap();
        assert_eq!(
            queue.push(message(50, None), 0),
            Err(QueueFull),
            "held ones count"
        );
        assert!(queue.complete(1, token).is_some());
        assert_eq!(queue.push(message(50, None), 0), Ok(()));
    }

    #[test]
    fn messages_come_in_order_and_return_in_order() {
        let mut queue = full();
        let ids = |queue: &mut C2dQueue, session| -> Vec<String> {
            (0..3)
                .map(|_| queue.lock_next(session, 0).unwrap().1.message_id.unwrap())
                .collect()
        };
        assert_eq!(ids(&mut queue, 1), ["0", "1", "2"]);
        queue.release_all();
        assert_eq!(ids(&mut queue, 2), ["0", "1", "2"]);
    }

    #[test]
    fn only_the_holder_completes() {
        let mut queue = full();
        let (token, _) = queue.lock_next(1, 0).unwrap();
        assert!(queue.complete(2, token).is_none());
        queue.release_all();
        assert!(queue.complete(1, token).is_none());
        assert_eq!(queue.len(), MAX_DEPTH);
    }

    #[test]
    fn expired_messages_are_not_delivered_and_make_room() {
        let mut queue = C2dQueue::default();
        queue.push(message(0, Some(100)), 0).unwrap();
        queue.push(message(1, None), 0).unwrap();
        assert_eq!(queue.lock_next(1, 100).unwrap().1.message_id.unwrap(), "1");
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.fallen(), [(message(0, Some(100)), Fate::Expired)]);
        assert_eq!(queue.fallen(), []);
    }

    #[test]
    fn a_message_that_is_never_acknowledged_is_given_up() {
        let mut queue = C2dQueue::default();
        queue.push(message(0, None), 0).unwrap();
        for _ in 0..MAX_DELIVERIES {
            assert!(queue.lock_next(1, 0).is_some());
            queue.release_all();
        }
        assert!(queue.is_empty());
        assert_eq!(
            queue.fallen(),
            [(message(0, None), Fate::DeliveryCountExceeded)]
        );
    }
}
