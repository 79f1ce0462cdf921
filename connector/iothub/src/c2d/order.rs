//! A message on its way from a caller to the link, and who answers for it.
//!
//! Three stages: *waiting* in the queue, *claimed* by the courier, *handed over* to the hub. The caller
//! keeps the deadline of the first and the last, the courier that of the second, so that "not sent" is
//! only said of what provably was not.

use std::sync::Arc;

use fe2o3_amqp::link::{SendError, delivery::DeliveryFut};
use fe2o3_amqp_types::messaging::Outcome;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{message::C2dMessage, outcome};
use crate::HubError;

/// The hub's coming answer to a message.
pub(super) type Delivery = DeliveryFut<Result<Outcome, SendError>>;

/// A message that was handed to the hub.
pub(super) struct HandedOver {
    pub(super) delivery: Delivery,
    /// Its place among those that wait for the hub's answer.
    pub(super) place: OwnedSemaphorePermit,
}

/// What the courier says about a message that it has claimed.
type Report = Result<HandedOver, HubError>;

/// A waiting message.
pub(super) struct Order {
    pub(super) message: C2dMessage,
    pub(super) deadline: Instant,
    ticket: oneshot::Sender<oneshot::Receiver<Report>>,
    /// Its place in the queue.
    _place: OwnedSemaphorePermit,
}

/// A message that the courier must report on by its deadline.
pub(super) struct Claimed {
    pub(super) message: C2dMessage,
    pub(super) deadline: Instant,
    pub(super) report: Reporter,
}

/// Tells the caller what became of a claimed message. Dropped, it says that it was not sent.
pub(super) struct Reporter(oneshot::Sender<Report>);

impl Order {
    /// Whether nobody waits for it any more.
    pub(super) fn abandoned(&self) -> bool {
        self.ticket.is_closed()
    }

    /// Takes the message over; `None` if its caller has given it up.
    pub(super) fn claim(self) -> Option<Claimed> {
        let Self {
            message,
            deadline,
            ticket,
            _place,
        } = self;
        let (report, reported) = oneshot::channel();
        ticket.send(reported).ok()?;
        Some(Claimed {
            message,
            deadline,
            report: Reporter(report),
        })
    }
}

impl Reporter {
    /// Says what became of it.
    pub(super) fn say(self, report: Report) {
        // A caller that has gone does not want to know.
        let _ = self.0.send(report);
    }
}

/// Where callers put their messages.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    orders: mpsc::UnboundedSender<Order>,
    /// Bounds `orders`.
    places: Arc<Semaphore>,
    size: usize,
}

impl Queue {
    pub(super) fn new(size: usize) -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (orders, taken) = mpsc::unbounded_channel();
        let size = size.clamp(1, Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(size));
        let queue = Self {
            orders,
            places,
            size,
        };
        (queue, taken)
    }

    /// Sends, and waits for the hub's answer.
    pub(super) async fn send(
        &self,
        message: C2dMessage,
        deadline: Instant,
    ) -> Result<(), HubError> {
        if deadline <= Instant::now() {
            return Err(late());
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Err(HubError::Backlog { waiting: self.size });
        };
        let device = message.device.clone();
        let (ticket, mut claimed) = oneshot::channel();
        let order = Order {
            message,
            deadline,
            ticket,
            _place: place,
        };
        self.orders.send(order).map_err(|_| stopped())?;
        let reported = match timeout_at(deadline, &mut claimed).await {
            Ok(Ok(reported)) => reported,
            Ok(Err(_)) => return Err(stopped()),
            Err(_) => {
                // From here on nobody can claim it; it may have been claimed just now.
                claimed.close();
                claimed.try_recv().map_err(|_| late())?
            }
        };
        // The courier reports by the deadline, or drops the claim before it has sent the message.
        let HandedOver { delivery, place } = reported.await.map_err(|_| dropped())??;
        let answered = timeout_at(deadline, delivery).await;
        drop(place);
        match answered {
            Ok(outcome) => outcome::settled(&device, outcome),
            Err(_) => Err(outcome::unknown("no answer in time")),
        }
    }
}

/// The deadline has passed before the message was handed over.
pub(super) fn late() -> HubError {
    HubError::NotSent {
        why: "there was no link to the hub, or no room on it, in time".into(),
    }
}

/// The link was lost, or the sender ended, before the message was handed over.
fn dropped() -> HubError {
    HubError::NotSent {
        why: "the link to the hub was lost".into(),
    }
}

/// The sender has ended.
pub(super) fn stopped() -> HubError {
    HubError::NotSent {
        why: "the sender has stopped".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::Ack;

    fn message() -> C2dMessage {
        C2dMessage {
            device: "d".into(),
            message_id: "m".into(),
            content_type: None,
            content_encoding: None,
            body: bytes::Bytes::new(),
            expiry_ms: None,
            ack: Ack::None,
            properties: BTreeMap::new(),
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_deadline_that_passes_in_the_queue_means_not_sent() {
        let (queue, mut orders) = Queue::new(1);
        assert_eq!(queue.send(message(), soon()).await, Err(late()));
        let order = orders.try_recv().unwrap();
        assert!(order.abandoned());
        assert!(order.claim().is_none());
        assert_eq!(queue.send(message(), Instant::now()).await, Err(late()));
    }

    #[tokio::test]
    async fn a_full_queue_says_so_until_one_is_claimed_or_dropped() {
        let (queue, mut orders) = Queue::new(1);
        let first = tokio::spawn({
            let queue = queue.clone();
            async move { queue.send(message(), far()).await }
        });
        let order = orders.recv().await.unwrap();
        let full = queue.send(message(), far()).await;
        assert_eq!(full, Err(HubError::Backlog { waiting: 1 }));
        order
            .claim()
            .unwrap()
            .report
            .say(Err(HubError::QuotaExceeded));
        assert_eq!(first.await.unwrap(), Err(HubError::QuotaExceeded));
        assert_eq!(queue.send(message(), soon()).await, Err(late()));
    }

    #[tokio::test]
    async fn a_claimed_message_is_answered_for_by_the_courier_alone() {
        let (queue, mut orders) = Queue::new(1);
        let deadline = soon();
        let sending = tokio::spawn(async move { queue.send(message(), deadline).await });
        let claimed = orders.recv().await.unwrap().claim().unwrap();
        tokio::time::sleep_until(deadline + Duration::from_millis(20)).await;
        assert!(!sending.is_finished(), "it may be sent any moment");
        claimed.report.say(Err(late()));
        assert_eq!(sending.await.unwrap(), Err(late()));
    }

    #[tokio::test]
    async fn what_waits_when_the_courier_ends_is_not_sent() {
        let (queue, orders) = Queue::new(1);
        let sending = tokio::spawn({
            let queue = queue.clone();
            async move { queue.send(message(), far()).await }
        });
        tokio::task::yield_now().await;
        drop(orders);
        assert_eq!(sending.await.unwrap(), Err(stopped()));
        assert_eq!(queue.send(message(), far()).await, Err(stopped()));
    }
}
