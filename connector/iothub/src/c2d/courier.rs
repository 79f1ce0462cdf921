//! The task that owns the connection: it keeps the link attached and hands messages over.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use fe2o3_amqp::{Sender, connection::ConnectionHandle, link::DetachError};
use tokio::{
    pin, select,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, interval, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    link::{self, Link},
    message::encode,
    order::{Claimed, HandedOver, Order, late},
    outcome,
};
use crate::{
    HubAmqpSettings, HubError,
    amqp::{authorization::renew, fault::closing, pause::Pause},
};

/// How often messages that nobody waits for any more make room while there is no link.
const SWEEP: Duration = Duration::from_millis(250);
/// How long the end waits for the hub's answers to what it was handed.
const DRAIN: Duration = Duration::from_secs(3);
/// A lost connection says why within this.
const CAUSE: Duration = Duration::from_secs(1);

/// Whether messages can be sent.
#[derive(Debug)]
pub(super) enum Status {
    /// There is no link; why the last attempt failed, or the last link was lost.
    Apart(Option<HubError>),
    /// The link is attached.
    Attached,
}

/// The orders that wait.
struct Inbox {
    orders: mpsc::UnboundedReceiver<Order>,
    /// Taken from `orders` while there was no link.
    swept: VecDeque<Order>,
}

impl Inbox {
    /// The next order; `None` once nobody can give any more. Cancel-safe.
    async fn next(&mut self) -> Option<Order> {
        match self.swept.pop_front() {
            Some(order) => Some(order),
            None => self.orders.recv().await,
        }
    }

    /// Drops what nobody waits for, until nobody can give orders any more. Cancel-safe.
    async fn sweep(&mut self) {
        let mut sweep = interval(SWEEP);
        loop {
            select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.swept.push_back(order),
                    None => return,
                },
                _ = sweep.tick() => self.swept.retain(|order| !order.abandoned()),
            }
        }
    }
}

/// Why serving a link has ended.
enum End {
    Stopped,
    Lost(HubError),
}

pub(super) struct Courier {
    settings: HubAmqpSettings,
    inbox: Inbox,
    /// Places for messages that wait for the hub's answer.
    in_flight: Arc<Semaphore>,
    places: u32,
    status: watch::Sender<Status>,
}

impl Courier {
    pub(super) fn new(
        settings: HubAmqpSettings,
        queue: usize,
        orders: mpsc::UnboundedReceiver<Order>,
        status: watch::Sender<Status>,
    ) -> Self {
        let places = u32::from(u16::try_from(queue.max(1)).unwrap_or(u16::MAX));
        let inbox = Inbox {
            orders,
            swept: VecDeque::new(),
        };
        Self {
            settings,
            inbox,
            in_flight: Arc::new(Semaphore::new(places as usize)),
            places,
            status,
        }
    }

    /// Connects and serves, again and again, until `shutdown` or until nobody is left to serve.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        self.keep(&shutdown).await;
        // Before the channel closes: its last value outlives us.
        self.status.send_replace(Status::Apart(None));
    }

    async fn keep(&mut self, shutdown: &CancellationToken) {
        let mut pause = Pause::default();
        loop {
            let opened = select! {
                () = shutdown.cancelled() => return,
                () = self.inbox.sweep() => return,
                opened = link::open(&self.settings) => opened,
            };
            let error = match opened {
                Ok(mut link) => {
                    let since = Instant::now();
                    tracing::info!("the link for cloud-to-device messages is attached");
                    self.status.send_replace(Status::Attached);
                    let end = self.serve(&mut link, shutdown).await;
                    if matches!(end, End::Stopped) {
                        self.drain().await;
                    }
                    link.close().await;
                    match end {
                        End::Stopped => return,
                        End::Lost(error) => {
                            pause.ended(since.elapsed());
                            tracing::warn!(%error, "the link for cloud-to-device messages is lost");
                            error
                        }
                    }
                }
                Err(error) => {
                    self.unconnected(&error);
                    error
                }
            };
            self.status.send_replace(Status::Apart(Some(error)));
            select! {
                () = shutdown.cancelled() => return,
                () = self.inbox.sweep() => return,
                () = sleep(pause.next(rand::random())) => {}
            }
        }
    }

    /// One line for each kind of failure, not for each attempt.
    fn unconnected(&self, error: &HubError) {
        let known = matches!(&*self.status.borrow(), Status::Apart(Some(last)) if last == error);
        if known {
            tracing::debug!(%error, "still no link for cloud-to-device messages");
        } else {
            tracing::warn!(%error, "no link for cloud-to-device messages; trying again");
        }
    }

    async fn serve(&mut self, link: &mut Link, shutdown: &CancellationToken) -> End {
        let Link {
            connection,
            tokens,
            end: sender,
            ..
        } = link;
        let renewal = renew(tokens, &self.settings.connection);
        pin!(renewal);
        loop {
            let (place, order) = select! {
                biased;
                () = shutdown.cancelled() => return End::Stopped,
                error = lost(connection, sender, renewal.as_mut()) => return End::Lost(error),
                next = next(&self.in_flight, &mut self.inbox) => match next {
                    Some(next) => next,
                    None => return End::Stopped,
                },
            };
            let Some(claimed) = order.claim() else {
                continue;
            };
            let handing = hand_over(sender, claimed, place);
            select! {
                biased;
                handed = handing => match handed {
                    Ok(()) => {}
                    Err(error) => return End::Lost(error),
                },
                error = renewal.as_mut() => return End::Lost(error),
                closed = connection.on_close() => return End::Lost(closing(closed)),
                () = shutdown.cancelled() => return End::Stopped,
            }
        }
    }

    /// Waits for the hub's answers to what it was handed.
    async fn drain(&self) {
        let _ = timeout(DRAIN, self.in_flight.acquire_many(self.places)).await;
    }
}

/// The next order, once there is a place for it. Cancel-safe: the order is taken last.
async fn next(
    in_flight: &Arc<Semaphore>,
    inbox: &mut Inbox,
) -> Option<(OwnedSemaphorePermit, Order)> {
    let place = in_flight.clone().acquire_owned().await.ok()?;
    let order = inbox.next().await?;
    Some((place, order))
}

/// Hands one message over and reports. Fails if the link is lost.
///
/// Whenever this ends, or is dropped, before the link has taken the whole message, its last frame is not
/// on its way and the hub cannot take it: that is what "not sent" rests on. A claim that is dropped
/// unreported says the same.
async fn hand_over(
    sender: &mut Sender,
    claimed: Claimed,
    place: OwnedSemaphorePermit,
) -> Result<(), HubError> {
    let Claimed {
        message,
        deadline,
        report,
    } = claimed;
    let handed = timeout_at(deadline, sender.send_batchable(encode(message))).await;
    let (said, link) = match handed {
        Ok(Ok(delivery)) => (Ok(HandedOver { delivery, place }), Ok(())),
        Ok(Err(error)) => (Err(outcome::unsent(&error)), outcome::link_after(&error)),
        Err(_) => (Err(late()), Ok(())),
    };
    report.say(said);
    link
}

/// Waits until the connection or the link is lost, or the token cannot be renewed. Cancel-safe.
async fn lost(
    connection: &mut ConnectionHandle<()>,
    sender: &mut Sender,
    renewal: Pin<&mut impl Future<Output = HubError>>,
) -> HubError {
    let detached = select! {
        error = renewal => return error,
        closed = connection.on_close() => return closing(closed),
        error = sender.on_detach() => error,
    };
    if matches!(detached, DetachError::IllegalSessionState)
        && let Ok(closed) = timeout(CAUSE, connection.on_close()).await
    {
        // The session went with its connection, which knows more.
        return closing(closed);
    }
    outcome::detached(&detached)
}
