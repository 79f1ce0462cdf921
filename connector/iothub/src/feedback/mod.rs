//! Feedback: what has become of cloud-to-device messages that asked for it ([`crate::Ack`]).
//!
//! The hub has one queue of feedback for all who send, and gives each batch to one of those who listen.
//! Source: Microsoft Learn, "Send cloud-to-device messages from an IoT hub" (message feedback).

mod link;
mod reader;
mod record;

use tokio::{
    select,
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{HubAmqpSettings, HubError, amqp::pause::Pause};
use reader::{End, Reader};
pub use record::{FeedbackRecord, FeedbackStatus};

/// Receives feedback and hands over what is `ours`, batch by batch, until `shutdown` or until nobody
/// takes `records` any more. Connects again and again, after pauses of at most half a minute. The policy
/// needs the right ServiceConnect.
///
/// A batch with some of ours is taken once they are handed over; one that the process cannot hand over
/// within the hub's lock, a minute, comes again. A batch without ours is left to others: it is given back,
/// and the next one is asked for only after a pause. The hub drops what was given back ten times.
pub async fn receive_feedback(
    settings: HubAmqpSettings,
    ours: impl Fn(&FeedbackRecord) -> bool + Send + Sync,
    records: mpsc::Sender<Vec<FeedbackRecord>>,
    shutdown: CancellationToken,
) {
    let reader = Reader {
        ours: &ours,
        records: &records,
    };
    keep(&settings, &reader, &shutdown).await;
}

async fn keep<F: Fn(&FeedbackRecord) -> bool>(
    settings: &HubAmqpSettings,
    reader: &Reader<'_, F>,
    shutdown: &CancellationToken,
) {
    let mut pause = Pause::default();
    let mut last = None;
    loop {
        let opened = select! {
            () = shutdown.cancelled() => return,
            () = reader.records.closed() => return,
            opened = link::open(settings) => opened,
        };
        let error = match opened {
            Ok(mut link) => {
                tracing::info!("the link for feedback is attached");
                let since = Instant::now();
                let end = reader.read(&mut link, &settings.connection, shutdown).await;
                link.close().await;
                match end {
                    End::Stopped => return,
                    End::Lost(error) => {
                        pause.ended(since.elapsed());
                        tracing::warn!(%error, "the link for feedback is lost");
                        error
                    }
                }
            }
            Err(error) => {
                unconnected(&error, last.as_ref());
                error
            }
        };
        last = Some(error);
        select! {
            () = shutdown.cancelled() => return,
            () = reader.records.closed() => return,
            () = sleep(pause.next(rand::random())) => {}
        }
    }
}

/// One line for each kind of failure, not for each attempt.
fn unconnected(error: &HubError, last: Option<&HubError>) {
    if last == Some(error) {
        tracing::debug!(%error, "still no link for feedback");
    } else {
        tracing::warn!(%error, "no link for feedback; trying again");
    }
}
