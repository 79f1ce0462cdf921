//! When the hub is asked, and how often: it throttles each sort of operation by itself, and says when it
//! wants to be asked again. Where its size is known, no more is asked than that allows; otherwise nothing is held
//! back before the hub does.
//!
//! Source: Microsoft Learn, "Understand and resolve Azure IoT Hub errors" (429001) and "IoT Hub quotas and
//! throttling".

use std::time::Duration;

use iothub::{Class, HubError, Taken};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{
    super::service::AT_ONCE,
    gate::{Asked, Gate, Number},
    quota::Quota,
};

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

/// Pause before a transient failure is tried again; a broken connection is made anew at once.
const AGAIN: Duration = Duration::from_millis(200);
/// Tries of one operation, apart from those that were throttled: more would wait for an outage to end
/// while the platform's own budget runs.
const TRIES: u32 = 3;

/// What of a request's time must be left when it goes to the hub after a wait: a round trip to a hub far away that is
/// well. Later it would be unknown whether the hub has taken it.
const ROUND_TRIP: Duration = Duration::from_millis(250);
/// Of the requests that are served at once, so many of one sort may wait for their turn: the others have room.
const EACH: usize = AT_ONCE / 2;
/// And so many of all sorts together.
const ALL: usize = AT_ONCE / 4 * 3;

/// One for each sort, and what the hub's size allows.
#[derive(Debug)]
pub(super) struct Gates {
    gates: [Gate; SORTS],
    quota: Option<Quota>,
    /// Places for those who wait.
    each: [Semaphore; SORTS],
    all: Semaphore,
    /// Writes that wait for others of their device.
    lanes: Semaphore,
}

/// A place of one who waits.
type Place<'a> = (SemaphorePermit<'a>, SemaphorePermit<'a>);

impl Gates {
    /// Gates before a hub of which this much may be asked.
    pub(super) fn new(quota: Option<Quota>) -> Self {
        Self {
            gates: Default::default(),
            quota,
            each: [(); SORTS].map(|()| Semaphore::new(EACH)),
            all: Semaphore::new(ALL),
            lanes: Semaphore::new(EACH),
        }
    }

    fn waiting(&self, sort: Sort) -> usize {
        EACH - self.each[sort as usize].available_permits()
    }

    fn place(&self, sort: Sort) -> Result<Place<'_>, HubError> {
        let each = self.each[sort as usize].try_acquire();
        each.and_then(|each| Ok((each, self.all.try_acquire()?)))
            .map_err(|_| HubError::Crowded {
                waiting: self.waiting(sort),
            })
    }

    /// A place for a message that waits for others of its device, for as long as it does. Those bound
    /// themselves while none waits for the hub.
    ///
    /// # Errors
    /// [`HubError::Crowded`] if too many wait so.
    pub(super) fn lane(&self) -> Result<Option<SemaphorePermit<'_>>, HubError> {
        match self.lanes.try_acquire() {
            Err(_) if self.waiting(Sort::Message) > 0 => Err(HubError::Crowded { waiting: EACH }),
            place => Ok(place.ok()),
        }
    }

    /// Waits until the hub may be asked.
    async fn turn(
        &self,
        sort: Sort,
        cost: f64,
        number: &mut Number,
        latest: Instant,
    ) -> Result<Asked<'_>, HubError> {
        let _place = self.place(sort)?;
        let gate = &self.gates[sort as usize];
        // What will not go takes nothing from the others.
        gate.check(latest)?;
        if let Some(quota) = &self.quota {
            sleep_until(quota.turn(sort, cost, latest)?).await;
        }
        gate.enter(number, latest).await
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
        let latest = deadline.checked_sub(ROUND_TRIP).unwrap_or(deadline);
        let mut number = Number::default();
        let mut tries = 0;
        loop {
            let mut asked = self.turn(sort, cost, &mut number, latest).await?;
            let answer = asked.answer(timeout_at(deadline, ask()));
            let answer = answer.await.unwrap_or_else(|_| Err(unanswered(sort)));
            let error = match answer {
                Ok(done) => {
                    asked.taken();
                    return Ok(done);
                }
                Err(HubError::Throttled { retry_after }) => {
                    asked.throttled(retry_after);
                    continue;
                }
                Err(error) => error,
            };
            match is_of_the_device(&error) {
                true => asked.taken(),
                false => drop(asked),
            }
            match error {
                error
                    if Instant::now() + AGAIN < deadline
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

/// The hub has looked at what it was asked for, and at the device.
fn is_of_the_device(error: &HubError) -> bool {
    error.class() == Class::NotFound
        || will_last(error)
        || matches!(error, HubError::QueueFull { .. })
}

/// These will not be different in a moment.
fn will_last(error: &HubError) -> bool {
    matches!(
        error,
        HubError::NotOnline { .. } | HubError::MethodTimedOut { .. } | HubError::Changed { .. }
    )
}

fn may_repeat(error: &HubError, repeat: Repeat) -> bool {
    let harmless = match error.taken() {
        Taken::No => true,
        Taken::Yes => false,
        Taken::Unknown => repeat == Repeat::Always,
    };
    error.class() == Class::Transient && !will_last(error) && harmless
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
        let gates = Gates::new(None);
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
        let gates = Gates::new(None);
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
        let gates = Gates::new(None);
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
    async fn what_was_asked_before_a_throttling_does_not_end_it() {
        let gates = Gates::new(None);
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
        let gates = Gates::new(None);
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

    /// What a hub lets through that takes one message at a time, one a second: numbers in their order, and how often it
    /// was asked. Each asks for itself, all together.
    async fn all_at_once(count: usize) -> (Vec<Result<usize, HubError>>, u32) {
        let gates = Gates::new(None);
        let (asked, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        let begun = Instant::now();
        let one = |number: usize| {
            let (gates, asked, taken) = (&gates, &asked, &taken);
            let deadline = deadline();
            gates.pass(
                Sort::Message,
                Repeat::IfNotTaken,
                deadline,
                move || async move {
                    asked.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(5)).await;
                    let allowed = begun.elapsed().as_secs();
                    if u64::from(taken.load(Ordering::Relaxed)) < allowed {
                        return Ok(taken.fetch_add(1, Ordering::Relaxed) as usize == number);
                    }
                    Err(throttled(None))
                },
            )
        };
        let done = futures::future::join_all((0..count).map(one)).await;
        let done = done.into_iter().enumerate();
        let done = done
            .map(|(number, done)| done.map(|in_turn| if in_turn { number } else { usize::MAX }));
        (done.collect(), asked.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_served_in_their_order_few_in_vain_and_none_is_left_in_doubt() {
        let (done, asked) = all_at_once(100).await;
        let taken: Vec<usize> = done.iter().flatten().copied().collect();
        assert!(taken.len() >= 20, "{taken:?}");
        assert!(taken.iter().copied().eq(0..taken.len()), "{taken:?}");
        let refused = done.iter().filter_map(|done| done.as_ref().err());
        for error in refused {
            assert!(matches!(error, HubError::Throttled { .. }), "{error}");
        }
        // All of them once, before the hub is known to throttle.
        assert!(asked <= 100 + 27 * 3, "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_leave_places_to_other_sorts() {
        let (done, asked) = all_at_once(AT_ONCE).await;
        assert!(asked as usize <= AT_ONCE + 27 * 3, "{asked}");
        let crowded = |done: &&Result<_, _>| matches!(done, Err(HubError::Crowded { .. }));
        assert_eq!(done.iter().filter(crowded).count(), AT_ONCE - EACH);
    }

    #[test]
    fn all_sorts_that_wait_together_leave_places_too() {
        let gates = Gates::new(None);
        let place = |sort| gates.place(sort).map_err(|error| error.class());
        let messages: Vec<_> = (0..EACH).map(|_| place(Sort::Message).unwrap()).collect();
        assert_eq!(place(Sort::Message).unwrap_err(), Class::Throttled);
        let methods: Vec<_> = std::iter::repeat_with(|| place(Sort::Method))
            .map_while(Result::ok)
            .collect();
        assert_eq!(messages.len() + methods.len(), ALL);
        drop(messages);
        assert!(place(Sort::Message).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_method_does_not_hold_up_those_behind_it() {
        let gates = Gates::new(None);
        let slow = async {
            let turn = AtomicU32::new(0);
            gates
                .pass(Sort::Method, Repeat::IfNotTaken, deadline(), || {
                    let first = turn.fetch_add(1, Ordering::Relaxed) == 0;
                    async move {
                        if first {
                            return Err(throttled(None));
                        }
                        sleep(Duration::from_secs(20)).await;
                        Ok(())
                    }
                })
                .await
        };
        let quick = async {
            let begun = Instant::now();
            let done = ask(&gates, Repeat::IfNotTaken, deadline(), &[Ok(())]).await;
            (done, begun.elapsed())
        };
        let (slow, (quick, took)) = tokio::join!(slow, quick);
        assert_eq!((slow, quick), (Ok(()), (Ok(()), 1)));
        assert_eq!(took, Duration::from_secs(2));
    }
}
