//! What the election allows, looked at before each write.

use std::time::Duration;

use http::{Method, Request};
use kube::{Client, client::Body};
use tokio::{sync::watch, time::Instant};

/// Given by the election.
#[derive(Debug)]
pub struct Grant(watch::Sender<Option<Instant>>);

/// Says whether this process may write now. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Permit(watch::Receiver<Option<Instant>>);

/// This process may not write: it stands by, or its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another operator leads, or nobody does yet")]
pub struct NotLeading;

impl Grant {
    /// Nothing is allowed yet.
    #[must_use]
    pub fn new() -> (Self, Permit) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Permit(receiver))
    }

    /// Writing is allowed until then.
    pub fn until(&self, until: Option<Instant>) {
        self.0.send_if_modified(|now| {
            let changed = *now != until;
            *now = until;
            changed
        });
    }

    /// Writing is always allowed: there is no election.
    pub fn for_ever(&self) {
        // More than a century.
        self.until(Some(Instant::now() + Duration::from_secs(1 << 32)));
    }

    /// Writing is no longer allowed.
    pub fn revoke(&self) {
        self.until(None);
    }
}

impl Permit {
    /// Whether writing is allowed at this moment. A process that has stood still finds its time over here.
    ///
    /// # Errors
    /// [`NotLeading`].
    pub fn check(&self) -> Result<(), NotLeading> {
        match *self.0.borrow() {
            Some(until) if Instant::now() < until => Ok(()),
            _ => Err(NotLeading),
        }
    }

    /// Waits until the permit is given, prolonged or taken.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The election is over, and with it all that could change.
            std::future::pending::<()>().await;
        }
    }
}

/// A client that writes only with permission; reading is always allowed.
#[must_use]
pub fn guarded(client: Client, permit: Permit) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, permit) = (client.clone(), permit.clone());
        async move {
            let reads = [Method::GET, Method::HEAD, Method::OPTIONS];
            if !reads.contains(request.method()) {
                permit.check()?;
            }
            client
                .send(request)
                .await
                .map_err(Into::<tower::BoxError>::into)
        }
    });
    Client::new(service, namespace)
}
