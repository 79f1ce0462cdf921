//! Letters on their way to the shelf, in batches, one after the other.
//!
//! An event waits for its letter, but only so long: [`BUDGET`]. Once a letter was not stored in time the
//! shelf is known to be down; then nothing waits any more, until a letter is stored again. What does not
//! wait is bounded by [`ROOM`], what does by its partition's read-ahead.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Letter, Shelf};
use crate::{
    metrics::Metrics,
    report::{Part, Reporter, Trouble},
};

/// How long a letter is tried to be stored, and its event waits for that at most: as long as a Thing is
/// tried.
const BUDGET: Duration = Duration::from_secs(10);
/// Letters that are stored together: large enough that a flood takes few writes, small enough for one
/// request.
const BATCH: usize = 1 << 20;
/// How long a batch waits for more. Seldom letters make seldom blobs, and still each is there soon.
const LINGER: Duration = Duration::from_secs(1);
/// Events in the queue and in the batch, in KiB: a few batches. Beyond that letters wait outside with their
/// partitions, or are lost while the shelf is down.
const ROOM: usize = 4096;
const KIB: usize = 1024;
/// First pause after a failed write; doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(500);
/// A shelf's return is noticed within this.
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// Pause before a shelf in trouble is asked again while there is no letter for it.
const PROVE: Duration = Duration::from_secs(15);
/// How long the end of the process waits for letters that nobody waits for.
const FLUSH: Duration = Duration::from_secs(5);

/// Takes letters; stores them in the background. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetters {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    /// The shelf is known to be down: no event waits for its letter.
    down: watch::Sender<bool>,
    budget: Duration,
    metrics: Metrics,
}

/// A letter in the queue.
struct Waiting {
    letter: Letter,
    posted: Instant,
    /// Dropped when the letter is stored or given up.
    _done: oneshot::Sender<()>,
    _room: OwnedSemaphorePermit,
}

/// The background task of [`DeadLetters`].
pub struct Post(JoinHandle<()>);

impl Post {
    /// Waits a while until what is in the queue is stored. The last [`DeadLetters`] must be dropped before.
    pub async fn end(self) {
        let _ = timeout(FLUSH, self.0).await;
    }
}

impl DeadLetters {
    /// Starts storing; ends when the last clone is dropped and the queue is empty. `connector` is the name
    /// of the connector's own Thing.
    #[must_use]
    pub fn start(
        shelf: Box<dyn Shelf>,
        connector: &str,
        metrics: Metrics,
        reporter: Reporter,
    ) -> (Self, Post) {
        Self::trying_for(BUDGET, shelf, connector, metrics, reporter)
    }

    /// The same with a budget of its own.
    pub(crate) fn trying_for(
        budget: Duration,
        shelf: Box<dyn Shelf>,
        connector: &str,
        metrics: Metrics,
        reporter: Reporter,
    ) -> (Self, Post) {
        // Each letter has at least one permit, so the queue is never full.
        let (queue, letters) = mpsc::channel(ROOM);
        let down = watch::Sender::new(false);
        // Both are there from the beginning, so that a first loss is seen as one.
        metrics.letters_stored(0);
        metrics.letters_lost(0);
        let writer = Writer {
            shelf,
            letters,
            connector: connector.to_owned(),
            down: down.clone(),
            budget,
            ill: false,
            lost: 0,
            metrics: metrics.clone(),
            reporter,
        };
        let task = tokio::spawn(writer.run());
        let letters = Self {
            queue,
            room: Arc::new(Semaphore::new(ROOM)),
            down,
            budget,
            metrics,
        };
        (letters, Post(task))
    }

    /// Posts a letter. Ready when its event need not wait any longer: the letter is stored, or has not been
    /// in time, or the shelf is known to be down.
    pub fn post(&self, letter: Letter) -> impl Future<Output = ()> + Send + 'static {
        let (own, posted) = (self.clone(), Instant::now());
        // At once if there is room: so letters lie in the order of their events, as a rule.
        let queued = match self.room.clone().try_acquire_many_owned(room_for(&letter)) {
            Ok(room) => Ok(self.queue(letter, posted, room)),
            Err(_) => Err(letter),
        };
        async move {
            let stored = match queued {
                Ok(stored) => Some(stored),
                Err(letter) => own.queue_later(letter, posted).await,
            };
            let Some(stored) = stored else {
                own.metrics.letters_lost(1);
                return;
            };
            tokio::select! {
                biased;
                _ = stored => {}
                () = own.given_up(posted) => {}
            }
        }
    }

    /// Queues a letter; what is given is done when the letter is stored or given up.
    fn queue(
        &self,
        letter: Letter,
        posted: Instant,
        room: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<()> {
        let (done, stored) = oneshot::channel();
        let waiting = Waiting {
            letter,
            posted,
            _done: done,
            _room: room,
        };
        if self.queue.try_send(waiting).is_err() {
            // Only if the background task has ended.
            self.metrics.letters_lost(1);
        }
        stored
    }

    /// Queues a letter when there is room for it; none if there is none in time.
    async fn queue_later(&self, letter: Letter, posted: Instant) -> Option<oneshot::Receiver<()>> {
        let kib = room_for(&letter);
        let room = tokio::select! {
            biased;
            room = self.room.clone().acquire_many_owned(kib) => room.ok(),
            () = self.given_up(posted) => self.room.clone().try_acquire_many_owned(kib).ok(),
        };
        room.map(|room| self.queue(letter, posted, room))
    }

    /// Waits until a letter that was posted then is no longer waited for.
    async fn given_up(&self, posted: Instant) {
        let mut down = self.down.subscribe();
        tokio::select! {
            biased;
            // The sender is our own.
            _ = down.wait_for(|down| *down) => {}
            () = sleep_until(posted + self.budget) => give_up(&self.down),
        }
    }
}

/// What a letter takes of [`ROOM`].
fn room_for(letter: &Letter) -> u32 {
    let kib = (letter.size() / KIB + 1).min(ROOM);
    // No more than [`ROOM`], which fits.
    u32::try_from(kib).unwrap_or(u32::MAX)
}

/// From now on no event waits for its letter.
fn give_up(down: &watch::Sender<bool>) {
    if down.send_if_modified(|down| !std::mem::replace(down, true)) {
        tracing::warn!("dead letters are not stored in time; events are settled without them");
    }
}

/// Letters that are stored together.
#[derive(Default)]
struct Batch {
    letters: Vec<(Waiting, Vec<u8>)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, waiting: Waiting, connector: &str) {
        let line = waiting.letter.line(connector);
        self.bytes += line.len();
        self.letters.push((waiting, line));
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH
    }

    /// Drops letters that were tried for the whole budget; gives their number.
    fn expire(&mut self, now: Instant, budget: Duration) -> usize {
        let before = self.letters.len();
        self.letters
            .retain(|(waiting, _)| now - waiting.posted < budget);
        self.bytes = self.letters.iter().map(|(_, line)| line.len()).sum();
        before - self.letters.len()
    }

    fn content(&self) -> Bytes {
        let mut content = Vec::with_capacity(self.bytes);
        for (_, line) in &self.letters {
            content.extend_from_slice(line);
        }
        content.into()
    }
}

struct Writer {
    shelf: Box<dyn Shelf>,
    letters: mpsc::Receiver<Waiting>,
    connector: String,
    down: watch::Sender<bool>,
    budget: Duration,
    /// The shelf has said that something is wrong, and nothing better since.
    ill: bool,
    /// Letters given up since a letter was stored.
    lost: usize,
    metrics: Metrics,
    reporter: Reporter,
}

impl Writer {
    async fn run(mut self) {
        self.prove().await;
        loop {
            let first = tokio::select! {
                biased;
                first = self.letters.recv() => first,
                () = sleep(PROVE), if self.ill => {
                    self.prove().await;
                    continue;
                }
            };
            let Some(first) = first else {
                return;
            };
            let batch = self.collect(first).await;
            self.store(batch).await;
        }
    }

    async fn prove(&mut self) {
        match self.shelf.prove().await {
            Ok(true) => self.well(),
            Ok(false) => {}
            Err(trouble) => self.trouble(trouble),
        }
    }

    /// What comes within [`LINGER`], up to a full batch.
    async fn collect(&mut self, first: Waiting) -> Batch {
        let mut batch = Batch::default();
        batch.add(first, &self.connector);
        let linger = sleep(LINGER);
        tokio::pin!(linger);
        while !batch.is_full() {
            tokio::select! {
                biased;
                next = self.letters.recv() => match next {
                    Some(next) => batch.add(next, &self.connector),
                    None => break,
                },
                () = &mut linger => break,
            }
        }
        batch
    }

    /// Tries until each letter of the batch is stored or was tried long enough.
    async fn store(&mut self, mut batch: Batch) {
        let mut pause = PAUSE;
        loop {
            let lost = batch.expire(Instant::now(), self.budget);
            if lost > 0 {
                give_up(&self.down);
                self.lost += lost;
                self.metrics.letters_lost(lost);
            }
            if batch.letters.is_empty() {
                return;
            }
            match self.shelf.put(batch.content()).await {
                Ok(()) => {
                    self.metrics.letters_stored(batch.letters.len());
                    return self.well();
                }
                Err(trouble) => self.trouble(trouble),
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
            // What has come meanwhile goes along.
            while !batch.is_full()
                && let Ok(next) = self.letters.try_recv()
            {
                batch.add(next, &self.connector);
            }
        }
    }

    fn trouble(&mut self, trouble: Trouble) {
        self.ill = true;
        self.reporter.trouble(Part::DeadLetter, trouble);
    }

    fn well(&mut self) {
        self.ill = false;
        self.reporter.well(Part::DeadLetter);
        let lost = std::mem::take(&mut self.lost);
        if self.down.send_replace(false) {
            tracing::info!(lost, "dead letters are stored again");
        }
    }
}

#[cfg(test)]
mod tests;
