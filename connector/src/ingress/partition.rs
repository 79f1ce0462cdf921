//! One partition, from its claim to its release: open, read, keep the lanes going, checkpoint.
//!
//! Nothing here waits for one thing alone: while the store of checkpoints, the hub or the platform does
//! not answer, the others go on.

mod after;
mod ahead;
mod checkpoint;
mod open;
mod pace;
mod passed;
mod received;
mod wake;
mod watchdog;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use connector_config::StartPosition;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use iothub::{Epoch, HubError, PartitionId};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Ingress,
    delivery::{Delivered, deliver},
    lane::Lanes,
    low_water::{LowWater, Mark},
    mapping::Link,
};
use crate::{claim::Claim, report::Part};

use ahead::Ahead;
use checkpoint::{Checkpoints, Stored};
use pace::Pace;
use wake::Wake;
use watchdog::Watchdog;

/// Events taken from the link at once: enough to merge, few enough to look after the rest.
const AT_ONCE: usize = 500;
/// Things written to at the same time for one partition. A node answers in milliseconds, so this is
/// thousands of writes a second; more would only wait in the node's queue.
const IN_FLIGHT: usize = 64;
/// A checkpoint every 5 s if it moved: what a crash reads again stays small, and the store sees at most
/// one write per partition and 5 s.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// Looks after lanes, the watchdog and the metrics.
const TICK: Duration = Duration::from_millis(500);
/// How long a hand-over waits for what is already read. Longer than two tries of a request.
const SETTLE: Duration = Duration::from_secs(10);
/// Pause before a failed link is opened again; doubles up to [`MAX_PAUSE`]. Short at first: the library drops
/// some links just after they have attached, and the next try holds.
const PAUSE: Duration = Duration::from_millis(200);
/// The hub's return is noticed within this.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// Any single call to the hub or the claim store.
const CALL: Duration = Duration::from_secs(30);

/// Reads a claimed partition until `stop`, or until the claim is lost.
pub async fn run(ingress: Arc<Ingress>, claim: Box<dyn Claim>, stop: CancellationToken) {
    let (id, epoch, fence) = (claim.partition().clone(), claim.epoch(), claim.fence());
    tracing::info!(partition = id.as_str(), epoch = epoch.0, "reading");
    ingress.reporter.reading(id.as_str(), true);
    ingress.metrics.owned(id.as_str(), epoch.0);
    let mark = claim.mark();
    let reader = Reader {
        position: mark.clone(),
        low: LowWater::after(mark),
        checkpoints: Checkpoints::new(claim, ingress.metrics.clone()),
        due: Instant::now() + CHECKPOINT,
        lanes: Lanes::default(),
        in_flight: FuturesUnordered::new(),
        letters: FuturesUnordered::new(),
        fence: Some(fence),
        start: ingress.start,
        pace: ingress.catch_up.map(Pace::new),
        wake: Wake::new(),
        ahead: Ahead::new(Instant::now(), ingress.memory.event()),
        batches: VecDeque::new(),
        id: id.clone(),
        epoch,
        ingress: ingress.clone(),
    };
    let share = ingress.memory.share();
    reader.run(&stop).await;
    drop(share);
    ingress.metrics.disowned(id.as_str());
    ingress.reporter.reading(id.as_str(), false);
}

struct Reader {
    ingress: Arc<Ingress>,
    id: PartitionId,
    epoch: Epoch,
    checkpoints: Checkpoints,
    /// When the next checkpoint is due.
    due: Instant,
    /// The last event received: where a link that failed is opened again.
    position: Option<Mark>,
    low: LowWater,
    lanes: Lanes,
    in_flight: FuturesUnordered<BoxFuture<'static, Delivered>>,
    /// Passed events, by sequence number, whose letters are on their way. Beside the lanes: what is passed
    /// holds up neither its own Thing nor others.
    letters: FuturesUnordered<BoxFuture<'static, i64>>,
    /// How long the earlier owner may still be writing once it is evicted; `None` when that is over.
    fence: Option<Duration>,
    /// Where reading begins without a position.
    start: StartPosition,
    pace: Option<Pace>,
    wake: Wake,
    ahead: Ahead,
    /// Batches that are not settled: the last sequence number, and when it came.
    batches: VecDeque<(i64, Instant)>,
}

/// Why reading from a link has ended.
enum End {
    Stopped,
    ClaimLost,
    /// The process stood still for so long.
    StoodStill(Duration),
    /// The events are of another size than the link was opened for.
    Resized,
    Failed(HubError),
}

impl Reader {
    async fn run(mut self, stop: &CancellationToken) {
        let mut pause = PAUSE;
        loop {
            let end = self.read(stop, &mut pause).await;
            let wait = match self.after(end, stop).await {
                Ok(wait) => wait.unwrap_or(pause),
                Err(end) => return self.end(&end).await,
            };
            pause = (pause * 2).min(MAX_PAUSE);
            // Lanes go on while the link is down.
            if let Err(end) = self.settle_while(sleep(wait), stop).await
                && let Err(end) = self.after(end, stop).await
            {
                return self.end(&end).await;
            }
            self.checkpoint_if_due(Instant::now());
        }
    }

    fn checkpoint_if_due(&mut self, now: Instant) {
        if now >= self.due {
            self.due = now + CHECKPOINT;
            self.checkpoints.begin(self.low.mark());
            self.lanes.prune(now);
        }
    }

    async fn end(self, end: &End) {
        match end {
            End::Stopped => self.hand_over().await,
            End::ClaimLost | End::StoodStill(_) | End::Resized | End::Failed(_) => {
                let partition = self.id.as_str();
                tracing::warn!(
                    partition,
                    "another member has taken over; dropping what is unsent"
                );
                self.ingress.metrics.moved("lost");
            }
        }
    }

    /// Forgets what is read and not settled; it is read again after the mark.
    fn drop_unsent(&mut self) {
        self.in_flight.clear();
        self.letters.clear();
        self.lanes.clear();
        self.batches.clear();
        self.low.drop_unsettled();
        self.position = self.low.mark().cloned();
    }

    async fn read(&mut self, stop: &CancellationToken, pause: &mut Duration) -> End {
        let mut link = match self.open(stop).await {
            Ok(link) => Link::new(link, self.ingress.mapping.clone()),
            Err(end) => return end,
        };
        *pause = PAUSE;
        self.ingress.reporter.well(Part::Ingress);
        let end = self.pump(&mut link, stop).await;
        // Beside everything else: a peer that does not answer must not delay what comes next.
        tokio::spawn(async move {
            if timeout(CALL, link.close()).await.is_err() {
                tracing::debug!("closing a link took too long");
            }
        });
        end
    }

    async fn pump(&mut self, link: &mut Link, stop: &CancellationToken) -> End {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut dog = Watchdog::new(Instant::now());
        loop {
            self.fill();
            let full = self
                .low
                .is_full(self.ingress.memory.read_ahead(), Instant::now());
            let room = self
                .pace
                .as_ref()
                .map_or(AT_ONCE, |pace| pace.room(AT_ONCE));
            tokio::select! {
                biased;
                still = self.wake.stood_still() => return End::StoodStill(still),
                () = stop.cancelled() => return End::Stopped,
                stored = self.checkpoints.done() => if stored == Stored::ClaimLost {
                    return End::ClaimLost;
                },
                _ = tick.tick() => {
                    let now = Instant::now();
                    if full || room == 0 || link.is_mapping() {
                        dog.heard(now);
                    }
                    if let Some(what) = self.look_after(&mut dog, now) {
                        return End::Failed(HubError::TimedOut { what: what.into() });
                    }
                }
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.settled(done);
                }
                Some(sequence) = self.letters.next(), if !self.letters.is_empty() => {
                    self.settle(&[sequence]);
                }
                batch = link.next(room), if !full && room > 0 => match batch {
                    Ok(batch) => {
                        let now = Instant::now();
                        dog.heard(now);
                        self.received(batch, now);
                        if self.ahead.is_off(now, self.ingress.memory.on_the_way()) {
                            return End::Resized;
                        }
                    }
                    Err(error) => return End::Failed(error),
                },
            }
        }
    }

    /// What has to be done now and then. Says why the link must be dead, if it must.
    fn look_after(&mut self, dog: &mut Watchdog, now: Instant) -> Option<&'static str> {
        self.checkpoint_if_due(now);
        let platform = self.ingress.platform.clone();
        self.lanes
            .tick(now, |node, since| platform.is_past(node, since));
        let seen = self.ingress.survey.of(&self.id);
        let behind_s = seen.as_ref().map_or(0, |seen| {
            let mark = self.low.mark();
            let metrics = &self.ingress.metrics;
            metrics.partition_lag(self.id.as_str(), mark, &seen.properties)
        });
        self.ingress
            .metrics
            .read_ahead(self.id.as_str(), self.low.open(), self.low.bytes());
        if let Some(pace) = &mut self.pace {
            pace.tick(now, behind_s);
        }
        let received = self.position.as_ref().map(|mark| mark.sequence);
        dog.dead(now, received, seen.as_ref())
    }

    fn fill(&mut self) {
        while self.in_flight.len() < IN_FLIGHT {
            let Some(batch) = self.lanes.take() else {
                break;
            };
            self.in_flight
                .push(Box::pin(deliver(self.ingress.clone(), batch)));
        }
    }

    fn settled(&mut self, mut done: Delivered) {
        for passed in std::mem::take(&mut done.passed) {
            self.post(done.thing.clone(), passed);
        }
        self.settle(&done.sequences);
        self.lanes.done(done, Instant::now());
    }

    fn settle(&mut self, sequences: &[i64]) {
        for sequence in sequences {
            self.low.settle(*sequence);
        }
        let now = Instant::now();
        let mark = self.low.mark().map_or(i64::MIN, |mark| mark.sequence);
        while let Some((last, received)) = self.batches.front()
            && *last <= mark
        {
            self.ingress.metrics.batch_settled(now - *received);
            self.batches.pop_front();
        }
    }

    /// Keeps the lanes going while something is done, unless they have to end.
    async fn settle_while<T>(
        &mut self,
        doing: impl Future<Output = T>,
        stop: &CancellationToken,
    ) -> Result<T, End> {
        tokio::pin!(doing);
        loop {
            self.fill();
            tokio::select! {
                biased;
                still = self.wake.stood_still() => return Err(End::StoodStill(still)),
                () = stop.cancelled() => return Err(End::Stopped),
                done = &mut doing => return Ok(done),
                stored = self.checkpoints.done() => if stored == Stored::ClaimLost {
                    return Err(End::ClaimLost);
                },
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.settled(done);
                }
                Some(sequence) = self.letters.next(), if !self.letters.is_empty() => {
                    self.settle(&[sequence]);
                }
            }
        }
    }

    /// Keeps the lanes going until they are empty and no letter is waited for, unless something ends that.
    async fn settle_all(&mut self, stop: &CancellationToken) -> Option<End> {
        loop {
            self.fill();
            if self.in_flight.is_empty() && self.letters.is_empty() {
                return None;
            }
            tokio::select! {
                biased;
                still = self.wake.stood_still() => return Some(End::StoodStill(still)),
                () = stop.cancelled() => return Some(End::Stopped),
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.settled(done);
                }
                Some(sequence) = self.letters.next(), if !self.letters.is_empty() => {
                    self.settle(&[sequence]);
                }
            }
        }
    }

    /// The planned end: settle or drop what is read, checkpoint, release.
    async fn hand_over(mut self) {
        self.lanes.doubts_are_due();
        let never = CancellationToken::new();
        let settled = timeout(SETTLE, self.settle_all(&never)).await;
        self.drop_unsent();
        let partition = self.id.as_str();
        let mark = self.low.mark().cloned();
        let sequence = mark.as_ref().map(|mark| mark.sequence);
        let settled = matches!(settled, Ok(None));
        match self.checkpoints.release(mark.as_ref()).await {
            Ok(()) => {
                tracing::info!(partition, sequence, settled, "handed over");
                self.ingress.metrics.moved("handed_over");
            }
            Err(error) => {
                tracing::warn!(partition, %error, "the claim could not be released");
            }
        }
    }
}

#[cfg(test)]
mod tests;
