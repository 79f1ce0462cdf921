//! Import of devices: for each device of the hub's registry a Thing, by the service
//! `ImportAzureIotDevices` of `ConnectionServicesHub`.
//!
//! There is one import of a connector at a time, kept in a [`Store`]: what was asked, how far it has come,
//! and which member is at it. The member that is asked begins it and answers at once; one that sees it
//! without a living holder goes on where its last page ended. Nothing is lost by that, since all that is
//! done for a device can be done twice.

mod event;
mod lease;
mod local;
mod record;
mod store;
mod thing;
mod walk;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    claim::{ClaimError, Observer},
    identity::MemberId,
    platform::{Kind, Unwritten},
};

pub use lease::LeaseStore;
pub use local::LocalStore;
pub use record::Asked;
pub use store::Store;
pub use walk::{Devices, Ways};

use record::{Progress, Record, State, Step, step};
use walk::End;

/// The holder writes how far it has come this often; four writes missed make it dead.
const RENEW: Duration = Duration::from_secs(2);
/// Between two looks at what another member is at.
const WATCH: Duration = Duration::from_secs(2);
/// Between two looks while nothing is known to be under way: four reads a minute and pod are the price of
/// noticing what another has left behind.
const LOOK: Duration = Duration::from_secs(15);
/// Between two lines of the log.
const TELL: Duration = Duration::from_secs(10);
/// Tries to begin; more would mean that others begin and end imports faster than one can be stored.
const TRIES: u32 = 3;
/// Tries to store an end, with a pause between them. If all fail, the event is fired again. The pause is also
/// that before the event is, if no node has answered.
const ENDING: (u32, Duration) = (5, Duration::from_secs(2));

/// The imports of a connector, as one member sees them. Cheap to clone.
#[derive(Clone)]
pub struct Imports {
    store: Arc<dyn Store>,
    member: MemberId,
    begun: Arc<Notify>,
    stop: CancellationToken,
}

impl Imports {
    /// Imports that the store keeps. After `stop` this member carries none on.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, member: MemberId, stop: CancellationToken) -> Self {
        Self {
            store,
            member,
            begun: Arc::default(),
            stop,
        }
    }

    /// Begins an import, unless one is under way; gives the id of the one that is.
    ///
    /// # Errors
    /// [`ClaimError`] if the store does not take it.
    pub async fn begin(&self, asked: Asked) -> Result<String, ClaimError> {
        for _ in 0..TRIES {
            let seen = self.store.look().await?;
            if let Some(record) = seen.running() {
                return Ok(record.id.clone());
            }
            let record = Record::new(asked.clone());
            let held = !self.stop.is_cancelled();
            let put = self.store.put(seen.version.as_deref(), &record, held);
            match put.await {
                Ok(_) => {
                    let Asked {
                        template,
                        condition,
                    } = &asked;
                    tracing::info!(import = record.id, template, ?condition, "an import begins");
                    self.begun.notify_one();
                    return Ok(record.id);
                }
                // Another member was asked at the same moment.
                Err(ClaimError::Lost) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ClaimError::Unavailable(
            "imports begin and end all the time".into(),
        ))
    }

    /// Carries imports on until `stop`, then leaves them to others.
    pub async fn run(self, ways: Ways) {
        let mut observer = Observer::default();
        while !self.stop.is_cancelled() {
            let pause = match self.turn(&mut observer, &ways).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::debug!(%error, "imports are looked for later");
                    LOOK
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.begun.notified() => {}
                () = sleep(pause) => {}
            }
        }
        // One that was begun here at the last moment.
        if let Ok(seen) = self.store.look().await
            && let Some(record) = seen.running()
            && seen.holder.as_ref() == Some(&self.member)
        {
            let _ = self.store.put(seen.version.as_deref(), record, false).await;
        }
    }

    /// Looks once, and carries on what is to be; gives when to look again.
    async fn turn(&self, observer: &mut Observer, ways: &Ways) -> Result<Duration, ClaimError> {
        let seen = self.store.look().await?;
        let now = Instant::now();
        let holder = seen.holder.clone().zip(seen.version.clone());
        observer.look(now, holder.into_iter(), std::iter::empty());
        let is_dead = |holder: &MemberId| observer.is_dead(holder, now);
        let dead = seen.holder.as_ref().is_some_and(is_dead);
        let record = match step(&seen, &self.member, dead) {
            Step::Rest => return Ok(LOOK),
            Step::Watch => return Ok(WATCH),
            Step::Carry(record) => record,
        };
        let mut version = seen.version.unwrap_or_default();
        if seen.holder.as_ref() != Some(&self.member) {
            version = match self.store.put(Some(&version), &record, true).await {
                Ok(version) => version,
                // Another member was faster.
                Err(ClaimError::Lost) => return Ok(WATCH),
                Err(error) => return Err(error),
            };
            let import = &record.id;
            tracing::info!(import, from = ?seen.holder, "an import that was left is taken over");
        }
        let held = Held {
            imports: self,
            progress: watch::Sender::new(record.progress.clone()),
            record,
            version: Mutex::new(version),
        };
        held.carry(ways).await;
        Ok(WATCH)
    }
}

/// An import that this member is at.
struct Held<'a> {
    imports: &'a Imports,
    record: Record,
    progress: watch::Sender<Progress>,
    /// Of the last write.
    version: Mutex<String>,
}

impl Held<'_> {
    /// Carries the import on to its end, until `stop`, or until it is ours no more.
    async fn carry(&self, ways: &Ways) {
        let import = &self.record.id;
        let end = tokio::select! {
            () = self.imports.stop.cancelled() => {
                match self.save(State::Running, false).await {
                    Ok(()) => tracing::info!(import, "the import is left to others"),
                    Err(error) => tracing::info!(import, %error, "the import was not handed over"),
                }
                return;
            }
            () = self.keep() => {
                tracing::warn!(import, "the import was taken over by another member, or its Lease deleted");
                return;
            }
            end = self.complete(ways) => end,
        };
        let Progress { count, .. } = self.progress.borrow().clone();
        let (created, existing, failed) = (count.created, count.existing, count.failed);
        let (status, message) = (end.state.as_str(), &end.message);
        tracing::info!(
            import,
            status,
            created,
            existing,
            failed,
            message,
            "the import has ended"
        );
        for _ in 0..ENDING.0 {
            match self.save(end.state, false).await {
                Ok(()) | Err(ClaimError::Lost) => return,
                Err(ClaimError::Unavailable(error)) => {
                    tracing::warn!(import, error, "the end of the import could not be stored");
                    sleep(ENDING.1).await;
                }
            }
        }
    }

    /// Walks to the end and tells of it.
    async fn complete(&self, ways: &Ways) -> End {
        let end = ways.walk(&self.record.asked, &self.progress).await;
        let count = self.progress.borrow().count.clone();
        let request = event::request(&self.record, &count, &end);
        loop {
            ways.platform.wait_writable().await;
            match ways.platform.ask(Kind::Read, &request).await.outcome {
                Ok(_) => return end,
                Err(error @ (Unwritten::Refused { .. } | Unwritten::TooLarge(_))) => {
                    tracing::warn!(import = self.record.id, %error, "ThingWorx did not take the event");
                    return end;
                }
                Err(error) => {
                    tracing::debug!(%error, "the event of an import waits");
                    sleep(ENDING.1).await;
                }
            }
        }
    }

    /// Stores how far it has come, again and again; ends when the import is ours no more. While the store
    /// is away the import goes on: at worst another member does the same.
    async fn keep(&self) {
        let import = &self.record.id;
        let mut renew = interval(RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Instant::now();
        loop {
            renew.tick().await;
            match self.save(State::Running, true).await {
                Ok(()) => {}
                Err(ClaimError::Lost) => return,
                Err(error) => {
                    tracing::debug!(import, %error, "the import's progress is not stored");
                }
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                let Progress { count, .. } = self.progress.borrow().clone();
                let (created, existing, failed) = (count.created, count.existing, count.failed);
                tracing::info!(import, created, existing, failed, "an import goes on");
            }
        }
    }

    /// Stores how far it has come.
    async fn save(&self, state: State, held: bool) -> Result<(), ClaimError> {
        let record = Record {
            state,
            progress: self.progress.borrow().clone(),
            ..self.record.clone()
        };
        let store = &self.imports.store;
        let version = self.version();
        let written = match store.put(Some(&version), &record, held).await {
            // Perhaps our own write, whose answer was lost: then it is ours as before.
            Err(ClaimError::Lost) => {
                let seen = store.look().await?;
                let ours = seen.holder.as_ref() == Some(&self.imports.member)
                    && seen.running().is_some_and(|now| now.id == record.id);
                if !ours {
                    return Err(ClaimError::Lost);
                }
                store.put(seen.version.as_deref(), &record, held).await
            }
            written => written,
        }?;
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = written;
        Ok(())
    }

    fn version(&self) -> String {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        version.clone()
    }
}

#[cfg(test)]
mod tests;
