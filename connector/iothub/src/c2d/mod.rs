//! Cloud-to-device messages over AMQP.

mod courier;
mod link;
mod message;
mod order;
mod outcome;

use std::time::Duration;

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

pub use message::{Ack, C2dMessage};

use crate::{HubAmqpSettings, HubError};
use courier::{Courier, Status};
use message::BODY_MAX;
use order::{Queue, stopped};

/// Runs what owns the link where no other of its tasks runs at the same time. fe2o3-amqp 0.16 notes that a message
/// waits for its answer only after it has handed it to the connection's task: where two tasks run at a time, an answer
/// that comes at once finds nobody waiting, and is lost. A runtime with one worker will do; otherwise it gets a thread
/// of its own, which must be woken twice for each message. Without a thread nothing is ever attached.
fn run_alone(courier: impl Future<Output = ()> + Send + 'static) {
    let here = Handle::try_current().ok().filter(|here| {
        here.runtime_flavor() == RuntimeFlavor::MultiThread && here.metrics().num_workers() == 1
    });
    if let Some(here) = here {
        here.spawn(courier);
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let started = runtime.and_then(|runtime| {
        std::thread::Builder::new()
            .name("cloud-to-device".into())
            .spawn(move || runtime.block_on(courier))
    });
    if let Err(error) = started {
        tracing::error!(%error, "cloud-to-device messages cannot be sent: no thread");
    }
}

/// Sends cloud-to-device messages. Cheap to clone; all clones share one connection.
#[derive(Debug, Clone)]
pub struct C2dSender {
    queue: Queue,
    status: watch::Receiver<Status>,
}

impl C2dSender {
    /// Starts connecting, and goes on until `shutdown` or until the last clone is dropped. What is with
    /// the hub then has a few seconds to be answered. `places` is how many messages may wait to be sent,
    /// and as many to be accepted.
    #[must_use]
    pub fn start(settings: HubAmqpSettings, places: usize, shutdown: CancellationToken) -> Self {
        let (queue, orders) = Queue::new(places);
        let (report, status) = watch::channel(Status::Apart(None));
        run_alone(Courier::new(settings, places, orders, report).run(shutdown));
        Self { queue, status }
    }

    /// Waits until the connection is made and authorised and the link attached.
    ///
    /// # Errors
    /// Why the last attempt within `timeout` failed.
    pub async fn prove(&self, timeout: Duration) -> Result<(), HubError> {
        let mut status = self.status.clone();
        let attached = status.wait_for(|status| matches!(status, Status::Attached));
        match tokio::time::timeout(timeout, attached).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => return Err(stopped()),
            Err(_) => {}
        }
        Err(match &*status.borrow() {
            Status::Apart(Some(error)) => error.clone(),
            _ => HubError::TimedOut {
                what: "the link for cloud-to-device messages".into(),
            },
        })
    }

    /// Sends, and waits until the hub has accepted.
    ///
    /// # Errors
    /// [`HubError`]; [`HubError::taken`] tells whether the hub may have taken it.
    pub async fn send(
        &self,
        message: C2dMessage,
        deadline: tokio::time::Instant,
    ) -> Result<(), HubError> {
        // The hub would detach the link, and what is under way on it would be uncertain.
        if message.body.len() > BODY_MAX {
            return Err(HubError::TooLarge {
                what: "the body of the message".into(),
            });
        }
        self.queue.send(message, deadline).await
    }
}
