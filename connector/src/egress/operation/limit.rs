//! When the hub is asked, and how often: it throttles each sort of operation by itself, and says when it
//! wants to be asked again. Where its size is known, no more is asked than that allows; otherwise nothing is held
//! back before the hub does.
//!
//! Source: Microsoft Learn, "Understand and resolve Azure IoT Hub errors" (429001) and "IoT Hub quotas and
//! throttling".

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use iothub::{Class, HubError, Taken};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::quota::Quota;

/// What the hub counts apart from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Cloud-to-device messages.
    Message,
    /// Direct methods.
    Method,
    /// Reading of twins.
    TwinRead,
    /// Changing of twins.
    TwinWrite,
    /// Devices' identities.
    Registry,
    /// Jobs.
    Job,
    /// Queries.
    Query,
}

/// How many sorts there are.
pub(super) const SORTS: usize = 7;

/// Whether an operation may be repeated when nobody knows whether the hub has carried it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Only if it provably has not.
    IfNotTaken,
    /// Doing it twice is doing it once.
    Always,
}

/// First pause after a throttling that says nothing of time, doubled with each further one up to the last:
/// the hub's own limits are counted by the second, and its queues are short.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// Pause before a transient failure is tried again; a broken connection is made anew at once.
const AGAIN: Duration = Duration::from_millis(200);
/// Tries of one operation, apart from those that were throttled: more would wait for an outage to end
/// while the platform's own budget runs.
const TRIES: u32 = 3;

/// One for each sort, and what the hub's size allows.
#[derive(Debug, Default)]
pub(super) struct Gates {
    gates: [Gate; SORTS],
    quota: Option<Quota>,
}

#[derive(Debug, Default)]
struct Gate(Mutex<Throttled>);

/// Since when, and for how long.
#[derive(Debug, Default)]
struct Throttled {
    since: Option<Instant>,
    until: Option<Instant>,
    /// Throttlings since the last success.
    row: u32,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, Throttled> {
        // The fields are whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hub has done something of this sort that it was asked for since it throttled: it does so no more.
    fn open(&self, asked: Instant) {
        let mut state = self.state();
        if state.since.is_none_or(|since| asked > since) {
            *state = Throttled::default();
        }
    }

    /// The hub throttles. Those who asked at the same time and were throttled as well make it no longer.
    fn close(&self, after: Option<Duration>, asked: Instant, now: Instant) {
        let mut state = self.state();
        let earlier = state.until.is_some_and(|until| asked < until);
        if earlier && after.is_none() {
            return;
        }
        let (first, last) = PAUSE;
        let own = first.saturating_mul(1 << state.row.min(8)).min(last);
        state.row = state.row.saturating_add(1);
        let until = now + after.unwrap_or(own);
        state.since = Some(now);
        state.until = Some(state.until.map_or(until, |old| old.max(until)));
    }

    /// When the hub wants to be asked again.
    fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.state().until.filter(|until| *until > now)
    }
}

impl Gates {
    /// Gates before a hub of which this much may be asked.
    pub(super) fn new(quota: Option<Quota>) -> Self {
        Self {
            quota,
            ..Self::default()
        }
    }

    /// Waits until the hub may be asked.
    async fn turn(&self, sort: Sort, cost: f64, deadline: Instant) -> Result<(), HubError> {
        let gate = &self.gates[sort as usize];
        loop {
            if let Some(until) = gate.closed_until(Instant::now()) {
                if until >= deadline {
                    let wait = until.saturating_duration_since(Instant::now());
                    return Err(HubError::Throttled {
                        retry_after: Some(wait),
                    });
                }
                sleep_until(until).await;
            }
            let Some(quota) = &self.quota else {
                return Ok(());
            };
            sleep_until(quota.turn(sort, cost, deadline)?).await;
            // Those who waited together go one after the other also when the hub has throttled in the meantime.
            if gate.closed_until(Instant::now()).is_none() {
                return Ok(());
            }
        }
    }

    /// Asks the hub for something that counts once, as [`Self::pass_large`] does.
    pub(super) async fn pass<T, F: Future<Output = Result<T, HubError>>>(
        &self,
        sort: Sort,
        repeat: Repeat,
        deadline: Instant,
        ask: impl FnMut() -> F,
    ) -> Result<T, HubError> {
        self.pass_large(sort, 1.0, repeat, deadline, ask).await
    }

    /// Asks the hub, again and again where that cannot do anything twice, until `deadline`. What cannot be
    /// asked in time is refused at once.
    pub(super) async fn pass_large<T, F: Future<Output = Result<T, HubError>>>(
        &self,
        sort: Sort,
        cost: f64,
        repeat: Repeat,
        deadline: Instant,
        mut ask: impl FnMut() -> F,
    ) -> Result<T, HubError> {
        let gate = &self.gates[sort as usize];
        let mut tries = 0;
        loop {
            self.turn(sort, cost, deadline).await?;
            let asked = Instant::now();
            let answer = timeout_at(deadline, ask())
                .await
                .unwrap_or_else(|_| Err(unanswered(sort)));
            let error = match answer {
                Ok(done) => {
                    gate.open(asked);
                    return Ok(done);
                }
                Err(error) => error,
            };
            let now = Instant::now();
            match error {
                HubError::Throttled { retry_after } => gate.close(retry_after, asked, now),
                error
                    if now + AGAIN < deadline
                        && may_repeat(&error, repeat)
                        && tries + 1 < TRIES =>
                {
                    tries += 1;
                    tracing::debug!(%error, ?sort, "asking the hub again");
                    sleep(AGAIN * tries).await;
                }
                error => return Err(error),
            }
        }
    }
}

fn may_repeat(error: &HubError, repeat: Repeat) -> bool {
    // These will not be different in a moment.
    let lasting = matches!(
        error,
        HubError::NotOnline { .. } | HubError::MethodTimedOut { .. } | HubError::Changed { .. }
    );
    let harmless = match error.taken() {
        Taken::No => true,
        Taken::Yes => false,
        Taken::Unknown => repeat == Repeat::Always,
    };
    error.class() == Class::Transient && !lasting && harmless
}

/// The time is over while the hub was being asked.
fn unanswered(sort: Sort) -> HubError {
    let what = match sort {
        Sort::Message => "a message",
        Sort::Method => "a direct method; the device may have run it",
        Sort::TwinRead => "reading a twin",
        Sort::TwinWrite => "changing a twin; it may have been changed",
        Sort::Registry => "the registry; it may have been changed",
        Sort::Job => "jobs",
        Sort::Query => "a query",
    };
    HubError::TimedOut { what: what.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const BUDGET: Duration = Duration::from_secs(27);

    fn deadline() -> Instant {
        Instant::now() + BUDGET
    }

    fn throttled(seconds: Option<u64>) -> HubError {
        HubError::Throttled {
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    fn lost() -> HubError {
        HubError::OutcomeUnknown {
            what: "it".into(),
            cause: "gone".into(),
        }
    }

    /// Asks with answers in turn, the last of which stays; tells how often was asked.
    async fn ask(
        gates: &Gates,
        repeat: Repeat,
        deadline: Instant,
        answers: &[Result<(), HubError>],
    ) -> (Result<(), HubError>, u32) {
        let asked = AtomicU32::new(0);
        let done = gates
            .pass(Sort::Method, repeat, deadline, || {
                let turn = asked.fetch_add(1, Ordering::Relaxed) as usize;
                let answer = answers[turn.min(answers.len() - 1)].clone();
                async move { answer }
            })
            .await;
        (done, asked.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_hub_may_have_done_is_repeated_only_where_that_does_no_harm() {
        let gates = Gates::default();
        let answers = [Err(lost()), Ok(())];
        let once = ask(&gates, Repeat::IfNotTaken, deadline(), &answers).await;
        assert_eq!(once, (Err(lost()), 1));
        let again = ask(&gates, Repeat::Always, deadline(), &answers).await;
        assert_eq!(again, (Ok(()), 2));
        let always_lost = [Err(lost())];
        let (_, asked) = ask(&gates, Repeat::Always, deadline(), &always_lost).await;
        assert_eq!(asked, TRIES);
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_is_waited_out_if_it_fits_and_refused_at_once_if_not() {
        let gates = Gates::default();
        let begun = Instant::now();
        let answers = [Err(throttled(Some(5))), Ok(())];
        let done = ask(&gates, Repeat::IfNotTaken, deadline(), &answers).await;
        assert_eq!(done, (Ok(()), 2));
        assert_eq!(begun.elapsed(), Duration::from_secs(5));

        let answers = [Err(throttled(Some(60)))];
        let begun = Instant::now();
        let (done, asked) = ask(&gates, Repeat::IfNotTaken, deadline(), &answers).await;
        assert_eq!((done, asked), (Err(throttled(Some(60))), 1));
        let (done, asked) = ask(&gates, Repeat::IfNotTaken, deadline(), &[Ok(())]).await;
        assert_eq!(asked, 0, "the hub is not asked before");
        assert!(done.unwrap_err().to_string().contains("60 s"));
        assert!(begun.elapsed().is_zero(), "nobody waits in vain");

        // Another sort of operation is not concerned.
        let twin = gates
            .pass(Sort::TwinRead, Repeat::Always, deadline(), || async {
                Ok(())
            })
            .await;
        assert_eq!(twin, Ok(()));
        tokio::time::advance(Duration::from_secs(60)).await;
        let done = ask(&gates, Repeat::IfNotTaken, deadline(), &[Ok(())]).await;
        assert_eq!(done, (Ok(()), 1), "at once when the time is over");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_time_the_pauses_grow_and_a_success_ends_them() {
        let gates = Gates::default();
        let begun = Instant::now();
        let answers = [
            Err(throttled(None)),
            Err(throttled(None)),
            Err(throttled(None)),
            Ok(()),
        ];
        let done = ask(&gates, Repeat::IfNotTaken, deadline(), &answers).await;
        assert_eq!(done, (Ok(()), 4));
        assert_eq!(begun.elapsed(), Duration::from_secs(1 + 2 + 4));
        let begun = Instant::now();
        let answers = [Err(throttled(None)), Ok(())];
        let _ = ask(&gates, Repeat::IfNotTaken, deadline(), &answers).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_are_throttled_together_wait_as_long_as_one() {
        let gates = Gates::default();
        let (asked, now) = (Instant::now(), Instant::now());
        for _ in 0..100 {
            gates.gates[Sort::Method as usize].close(None, asked, now);
        }
        let until = gates.gates[Sort::Method as usize].closed_until(now);
        assert_eq!(until, Some(now + PAUSE.0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_before_a_throttling_does_not_end_it() {
        let gates = Gates::default();
        let early = gates.pass(Sort::Method, Repeat::IfNotTaken, deadline(), || async {
            sleep(Duration::from_secs(1)).await;
            Ok(())
        });
        let throttled = [Err(throttled(Some(60)))];
        let throttled = ask(&gates, Repeat::IfNotTaken, deadline(), &throttled);
        let (early, _) = tokio::join!(early, throttled);
        assert_eq!(early, Ok(()));
        let (_, asked) = ask(&gates, Repeat::IfNotTaken, deadline(), &[Ok(())]).await;
        assert_eq!(asked, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_ends_with_the_budget() {
        let gates = Gates::default();
        let begun = Instant::now();
        let done: Result<(), HubError> = gates
            .pass(
                Sort::Method,
                Repeat::IfNotTaken,
                deadline(),
                std::future::pending,
            )
            .await;
        assert_eq!(done.unwrap_err().taken(), Taken::Unknown);
        assert_eq!(begun.elapsed(), BUDGET);
    }
}
