//! Batch by batch: take ours, leave the others.

use std::time::Duration;

use fe2o3_amqp::{
    Delivery, Receiver,
    connection::ConnectionHandle,
    link::{IllegalLinkStateError, LinkStateError, RecvError},
};
use fe2o3_amqp_types::{messaging::Body, primitives::Value};
use tokio::{
    pin, select,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    link::Link,
    record::{FeedbackRecord, batch},
};
use crate::{
    HubConnectionString, HubError,
    amqp::{
        authorization::renew,
        fault::{closed_for, closing, transport},
    },
};

/// What is lost.
const LINK: &str = "the link for feedback";
/// A lost connection says why within this.
const CAUSE: Duration = Duration::from_secs(1);
/// After a batch of others: time for them to take it. It grows while only theirs come, so that a hub
/// whose feedback nobody but others want is not asked without end.
const LEFT_FIRST: Duration = Duration::from_secs(1);
const LEFT_LONGEST: Duration = Duration::from_secs(30);

/// Why reading has ended.
pub(super) enum End {
    Stopped,
    Lost(HubError),
}

/// Whose records are taken, and where they go.
pub(super) struct Reader<'a, F> {
    pub(super) ours: &'a F,
    pub(super) records: &'a mpsc::Sender<Vec<FeedbackRecord>>,
}

impl<F: Fn(&FeedbackRecord) -> bool> Reader<'_, F> {
    /// Reads until `shutdown`, until nobody takes records, or until the link is lost.
    pub(super) async fn read(
        &self,
        link: &mut Link,
        policy: &HubConnectionString,
        shutdown: &CancellationToken,
    ) -> End {
        let Link {
            connection,
            tokens,
            end: receiver,
            ..
        } = link;
        let renewal = renew(tokens, policy);
        pin!(renewal);
        let ended = select! {
            () = shutdown.cancelled() => return End::Stopped,
            () = self.records.closed() => return End::Stopped,
            error = renewal => Ended::For(error),
            closed = connection.on_close() => Ended::For(closing(closed)),
            ended = self.batches(receiver) => ended,
        };
        match ended {
            Ended::For(error) => End::Lost(error),
            // Somebody has dropped `records` in the middle of a batch: it comes again, to others.
            Ended::Untaken => End::Stopped,
            Ended::Session(error) => End::Lost(cause(connection, error).await),
        }
    }

    async fn batches(&self, receiver: &mut Receiver) -> Ended {
        let mut left = LEFT_FIRST;
        loop {
            match self.one(receiver).await {
                Ok(Taken::Ours) => left = LEFT_FIRST,
                Ok(Taken::Left) => {
                    sleep(left).await;
                    left = (left * 2).min(LEFT_LONGEST);
                }
                Err(ended) => return ended,
            }
        }
    }

    /// Asks for a batch, and settles it.
    async fn one(&self, receiver: &mut Receiver) -> Result<Taken, Ended> {
        // One at a time: what is not asked for stays with the hub, for whomever it concerns.
        receiver
            .set_credit(1)
            .await
            .map_err(|error| unsettled(&error))?;
        let delivery: Delivery<Body<Value>> =
            receiver.recv().await.map_err(|error| lost(&error))?;
        let ours = match delivery.body() {
            Body::Data(sections) => {
                let bytes: Vec<u8> = sections.iter().flat_map(|data| data.0.to_vec()).collect();
                batch(&bytes)
            }
            _ => batch(&[]),
        };
        let ours: Vec<FeedbackRecord> = match ours {
            Ok(records) => records.into_iter().filter(|one| (self.ours)(one)).collect(),
            Err(error) => {
                tracing::warn!(%error, "a batch of feedback cannot be read; it is left to others");
                Vec::new()
            }
        };
        if ours.is_empty() {
            let released = receiver.release(&delivery).await;
            return match released {
                Ok(()) => Ok(Taken::Left),
                Err(error) => Err(unsettled(&error)),
            };
        }
        self.records.send(ours).await.map_err(|_| Ended::Untaken)?;
        match receiver.accept(&delivery).await {
            Ok(()) => Ok(Taken::Ours),
            Err(error) => Err(unsettled(&error)),
        }
    }
}

/// What was done with a batch.
enum Taken {
    Ours,
    Left,
}

/// Why no more batches come.
enum Ended {
    For(HubError),
    /// The session is gone: its connection may know why.
    Session(HubError),
    /// Nobody takes records any more.
    Untaken,
}

fn unsettled(error: &IllegalLinkStateError) -> Ended {
    Ended::Session(transport(LINK, error))
}

fn lost(error: &RecvError) -> Ended {
    match error {
        RecvError::LinkStateError(
            LinkStateError::RemoteClosedWithError(error)
            | LinkStateError::RemoteDetachedWithError(error),
        ) => Ended::For(closed_for(LINK, error)),
        error => Ended::Session(transport(LINK, error)),
    }
}

async fn cause(connection: &mut ConnectionHandle<()>, error: HubError) -> HubError {
    match timeout(CAUSE, connection.on_close()).await {
        Ok(closed) => closing(closed),
        Err(_) => error,
    }
}
