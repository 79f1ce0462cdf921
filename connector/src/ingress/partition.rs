//! One partition, from its claim to its release: open, read, keep the lanes going, checkpoint.

use std::time::Duration;

use connector_config::{ReportClass, StartPosition};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use iothub::{Batches, Event, HubError, Position};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Ingress,
    decode::{Undecodable, decode},
    delivery::{Delivered, deliver},
    lane::Lanes,
    low_water::{LowWater, Mark, ReadAhead},
    pass::{Detail, Pass, Reason},
};
use crate::{
    claim::{Claim, ClaimError},
    report::{Part, Trouble},
};

/// Events taken from the link at once: enough to merge, few enough to look after the rest.
const AT_ONCE: usize = 500;
/// Things written to at the same time for one partition. A node answers in milliseconds, so this is
/// thousands of writes a second; more would only wait in the node's queue.
const IN_FLIGHT: usize = 64;
/// A checkpoint every 5 s if it moved: what a crash reads again stays small, and the store sees at most
/// one write per partition and 5 s.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// An owned partition that is silent for so long is asked whether it has anything: a link can be dead
/// without an error.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a hand-over waits for what is already read. Longer than two tries of a request.
const SETTLE: Duration = Duration::from_secs(10);
/// Pause before a failed link is opened again; doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(500);
/// The hub's return is noticed within this.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// Somebody else reads this consumer group: wait before trying again, never raise the epoch.
const TAKEN_PAUSE: Duration = Duration::from_secs(60);
/// Any single call to the hub or the claim store.
const CALL: Duration = Duration::from_secs(30);

/// Reads a claimed partition until `stop`, or until the claim is lost.
pub async fn run(ingress: Ingress, claim: Box<dyn Claim>, stop: CancellationToken) {
    let id = claim.partition().clone();
    let (partition, epoch) = (id.as_str(), claim.epoch().0);
    tracing::info!(partition, epoch, "reading");
    ingress.reporter.reading(partition, true);
    ingress.metrics.partitions.inc();
    let mark = claim.mark();
    let reader = Reader {
        position: mark.clone(),
        stored: mark.clone(),
        low: LowWater::after(mark),
        claim,
        lanes: Lanes::default(),
        in_flight: FuturesUnordered::new(),
        fenced: false,
        start: ingress.start,
        ingress: ingress.clone(),
    };
    reader.run(&stop).await;
    ingress.metrics.partitions.dec();
    ingress.reporter.reading(partition, false);
}

struct Reader {
    ingress: Ingress,
    claim: Box<dyn Claim>,
    /// The last event received: where a link that failed is opened again.
    position: Option<Mark>,
    low: LowWater,
    /// The last mark that the store took.
    stored: Option<Mark>,
    lanes: Lanes,
    in_flight: FuturesUnordered<BoxFuture<'static, Delivered>>,
    /// The earlier owner can no longer write.
    fenced: bool,
    /// Where reading begins without a position.
    start: StartPosition,
}

/// Why reading from a link has ended.
enum End {
    Stopped,
    ClaimLost,
    Failed(HubError),
}

impl Reader {
    async fn run(mut self, stop: &CancellationToken) {
        let mut pause = PAUSE;
        loop {
            let error = match self.read(stop, &mut pause).await {
                End::Stopped => return self.hand_over().await,
                End::ClaimLost => {
                    let partition = self.claim.partition().as_str();
                    tracing::warn!(partition, "the claim is lost; dropping what is unsent");
                    return;
                }
                End::Failed(error) => error,
            };
            let wait = match self.after(&error, stop).await {
                Ok(wait) => wait.unwrap_or(pause),
                Err(End::ClaimLost) => return,
                Err(_) => pause,
            };
            pause = (pause * 2).min(MAX_PAUSE);
            // Lanes go on while the link is down.
            let woken = self.settle_until(sleep(wait), stop).await;
            if woken {
                return self.hand_over().await;
            }
        }
    }

    /// What a failed link means, and how long to wait before the next.
    async fn after(
        &mut self,
        error: &HubError,
        stop: &CancellationToken,
    ) -> Result<Option<Duration>, End> {
        let partition = self.claim.partition().as_str().to_owned();
        match error {
            HubError::Evicted { .. } | HubError::LowerEpoch { .. } => {
                match self.claim.confirm().await {
                    Err(ClaimError::Lost) => {
                        tracing::warn!(
                            partition,
                            "another member has taken over; dropping what is unsent"
                        );
                        Err(End::ClaimLost)
                    }
                    confirmed @ (Ok(()) | Err(ClaimError::Unavailable(_))) => {
                        if confirmed.is_err() {
                            // Perhaps another member has taken over and writes what came later.
                            self.drop_unsent();
                        }
                        let message = format!(
                            "partition {partition} is read by another program on the same consumer group; \
                         give this connector a consumer group of its own"
                        );
                        let trouble =
                            Trouble::new(ReportClass::User, "ConsumerGroupTaken", message);
                        self.ingress.reporter.trouble(Part::Ingress, trouble);
                        Ok(Some(TAKEN_PAUSE))
                    }
                }
            }
            HubError::PositionRefused { .. } => {
                tracing::error!(
                    partition, position = ?self.position, %error,
                    "the hub no longer has the position; starting at the earliest event it keeps"
                );
                // What was read before belongs to the old stream, whose positions mean nothing in the new.
                tokio::select! {
                    () = stop.cancelled() => return Ok(None),
                    () = self.settle_all() => {}
                }
                self.position = None;
                self.stored = None;
                self.low = LowWater::after(None);
                // "Latest" would skip what is still there.
                self.start = StartPosition::Earliest;
                Ok(None)
            }
            error => {
                tracing::warn!(partition, %error, "the link to the partition failed; opening it again");
                Ok(None)
            }
        }
    }

    /// Forgets what is read and not settled; it is read again after the mark.
    fn drop_unsent(&mut self) {
        self.in_flight.clear();
        self.lanes.clear();
        self.low.drop_unsettled();
        self.position = self.low.mark().cloned();
    }

    async fn start_position(&mut self) -> Result<Position, End> {
        if let Some(mark) = &self.position {
            return Ok(Position::After(iothub::Offset::new(mark.offset.as_ref())));
        }
        match self.start {
            StartPosition::Earliest => Ok(Position::Earliest),
            StartPosition::Latest => {
                // Resolved once and stored before reading: a crash before the first checkpoint must
                // not move "latest" past what has arrived since.
                let (source, id) = (self.ingress.source.clone(), self.claim.partition().clone());
                let now = source.properties(&id).await.map_err(End::Failed)?;
                if now.last_offset.as_str().is_empty() {
                    return Ok(Position::Earliest);
                }
                let mark = Mark {
                    offset: now.last_offset.as_str().into(),
                    sequence: now.last_sequence,
                    enqueued_ms: now.last_enqueued_ms,
                };
                self.low = LowWater::after(Some(mark.clone()));
                if self.checkpoint().await == Stored::ClaimLost {
                    return Err(End::ClaimLost);
                }
                if self.stored.as_ref() != Some(&mark) {
                    let what = "storing where reading begins".into();
                    return Err(End::Failed(HubError::TimedOut { what }));
                }
                self.position = Some(mark.clone());
                Ok(Position::After(iothub::Offset::new(mark.offset.as_ref())))
            }
        }
    }

    async fn open(&mut self) -> Result<Box<dyn Batches>, End> {
        let position = self.start_position().await?;
        let (id, epoch) = (self.claim.partition().clone(), self.claim.epoch());
        let source = self.ingress.source.clone();
        let link = source.open(&id, position, epoch).await;
        let link = link.map_err(End::Failed)?;
        if !self.fenced {
            // Attached: the earlier owner is evicted. What it still has in flight at the platform is
            // answered or given up after one request time-out.
            sleep(self.claim.fence()).await;
            self.fenced = true;
        }
        Ok(link)
    }

    async fn read(&mut self, stop: &CancellationToken, pause: &mut Duration) -> End {
        let opened = tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            opened = timeout(CALL, self.open()) => opened,
        };
        let mut link = match opened {
            Ok(Ok(link)) => link,
            Ok(Err(end)) => return end,
            Err(_) => {
                return End::Failed(HubError::TimedOut {
                    what: "opening a partition".into(),
                });
            }
        };
        *pause = PAUSE;
        self.ingress.reporter.well(Part::Ingress);
        let end = self.pump(link.as_mut(), stop).await;
        if timeout(CALL, link.close()).await.is_err() {
            tracing::debug!(
                partition = self.claim.partition().as_str(),
                "closing took too long"
            );
        }
        end
    }

    async fn pump(&mut self, link: &mut dyn Batches, stop: &CancellationToken) -> End {
        let mut checkpoint = interval(CHECKPOINT);
        checkpoint.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            self.fill();
            let reading = !self.low.is_full(ReadAhead::default(), Instant::now());
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.settled(done);
                }
                _ = checkpoint.tick() => {
                    self.lanes.prune(Instant::now());
                    if self.checkpoint().await == Stored::ClaimLost {
                        return End::ClaimLost;
                    }
                    if heard.elapsed() >= SILENCE && reading {
                        match self.has_news().await {
                            Ok(false) => heard = Instant::now(),
                            Ok(true) => {
                                let what = "a partition that has news but delivers none".into();
                                return End::Failed(HubError::TimedOut { what });
                            }
                            Err(error) => return End::Failed(error),
                        }
                    }
                }
                events = link.next(AT_ONCE), if reading => match events {
                    Ok(events) => {
                        heard = Instant::now();
                        self.received(&events);
                    }
                    Err(error) => return End::Failed(error),
                },
            }
        }
    }

    /// Whether the partition has events beyond the last received one.
    async fn has_news(&mut self) -> Result<bool, HubError> {
        let (source, id) = (self.ingress.source.clone(), self.claim.partition().clone());
        let ask = source.properties(&id);
        let now = timeout(CALL, ask).await.map_err(|_| HubError::TimedOut {
            what: "asking a partition for its state".into(),
        })??;
        let last = self.position.as_ref().map_or(-1, |mark| mark.sequence);
        let behind = if now.empty {
            0
        } else {
            (now.last_sequence - last).max(0)
        };
        let lag = self.ingress.metrics.lag.with_label_values(&[id.as_str()]);
        lag.set(behind);
        Ok(behind > 0)
    }

    fn received(&mut self, events: &[Event]) {
        let partition = self.claim.partition().as_str();
        let metrics = &self.ingress.metrics;
        metrics
            .events
            .with_label_values(&[partition])
            .inc_by(events.len() as u64);
        let now = Instant::now();
        for event in events {
            if let Some(last) = &self.position {
                let missing = event.sequence - last.sequence - 1;
                if missing > 0 {
                    tracing::error!(
                        partition,
                        after = last.sequence,
                        missing,
                        "events are missing"
                    );
                    metrics
                        .gaps
                        .with_label_values(&[partition])
                        .inc_by(missing.unsigned_abs());
                }
                if missing < 0 {
                    // Delivered again by the hub; the first arrival has its place already.
                    continue;
                }
            }
            let mark = Mark {
                offset: event.partition_offset.as_str().into(),
                sequence: event.sequence,
                enqueued_ms: event.enqueued_ms,
            };
            self.position = Some(mark.clone());
            // The wall clock, only where the settings ask for it.
            let now_ms = jiff::Timestamp::now().as_millisecond();
            match decode(event, &self.ingress.messages, now_ms) {
                Ok(message) => {
                    self.low.admit(mark, message.bytes, now);
                    self.lanes.push(message);
                }
                Err(fault) => {
                    self.low.admit(mark, event.body.len(), now);
                    let reason = match fault {
                        Undecodable::Kind(_) => Reason::Kind,
                        _ => Reason::Protocol,
                    };
                    self.ingress.passes.pass(Pass {
                        reason,
                        thing: event.device.clone().unwrap_or_default(),
                        message: fault.to_string(),
                        detail: Detail::None,
                    });
                    self.low.settle(event.sequence);
                }
            }
        }
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

    fn settled(&mut self, done: Delivered) {
        let Delivered {
            thing,
            sequences,
            known,
            shadow,
        } = done;
        for sequence in sequences {
            self.low.settle(sequence);
        }
        self.lanes.done(&thing, known, shadow);
    }

    /// Keeps the lanes going until `until` (false) or `stop` (true).
    async fn settle_until(
        &mut self,
        until: impl Future<Output = ()>,
        stop: &CancellationToken,
    ) -> bool {
        tokio::pin!(until);
        loop {
            self.fill();
            tokio::select! {
                () = stop.cancelled() => return true,
                () = &mut until => return false,
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.settled(done);
                }
            }
        }
    }

    /// Keeps the lanes going until they are empty.
    async fn settle_all(&mut self) {
        loop {
            self.fill();
            let Some(done) = self.in_flight.next().await else {
                break;
            };
            self.settled(done);
        }
    }

    async fn checkpoint(&mut self) -> Stored {
        let Some(mark) = self
            .low
            .mark()
            .filter(|mark| Some(*mark) != self.stored.as_ref())
            .cloned()
        else {
            return Stored::Fine;
        };
        let saved = timeout(CALL, self.claim.save(&mark)).await;
        let partition = self.claim.partition().as_str();
        let (outcome, stored) = match saved {
            Ok(Ok(())) => ("stored", Stored::Fine),
            Ok(Err(ClaimError::Lost)) => ("lost", Stored::ClaimLost),
            Ok(Err(ClaimError::Unavailable(error))) => {
                tracing::warn!(
                    partition,
                    error,
                    "the checkpoint could not be stored; going on"
                );
                ("failed", Stored::Fine)
            }
            Err(_) => {
                tracing::warn!(partition, "storing the checkpoint took too long; going on");
                ("failed", Stored::Fine)
            }
        };
        if outcome == "stored" {
            self.stored = Some(mark);
        }
        self.ingress
            .metrics
            .checkpoints
            .with_label_values(&[outcome])
            .inc();
        stored
    }

    /// The planned end: settle or drop what is read, checkpoint, release.
    async fn hand_over(mut self) {
        let settled = timeout(SETTLE, self.settle_all()).await.is_ok();
        self.drop_unsent();
        let id = self.claim.partition().clone();
        let mark = self.low.mark().cloned();
        let sequence = mark.as_ref().map(|mark| mark.sequence);
        match timeout(CALL, self.claim.release(mark.as_ref())).await {
            Ok(Ok(())) => {
                tracing::info!(partition = id.as_str(), sequence, settled, "handed over");
            }
            Ok(Err(error)) => {
                tracing::warn!(partition = id.as_str(), %error, "the claim could not be released");
            }
            Err(_) => {
                tracing::warn!(partition = id.as_str(), "releasing the claim took too long");
            }
        }
    }
}

#[derive(PartialEq)]
enum Stored {
    Fine,
    ClaimLost,
}

#[cfg(test)]
mod tests;
