//! The line before the hub for one sort of operation: first come, first served, also when tried again.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use iothub::HubError;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use super::throttle::{Pass, Throttle, Turn};

/// A hub that throttles says so within this; a method that it has let through may last.
const SAID: Duration = Duration::from_secs(1);

/// One for each sort.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    throttle: Throttle,
    /// Those who wait, by their numbers. Only the first of them looks at the throttle.
    line: BTreeMap<u64, Arc<Notify>>,
    next: u64,
}

impl State {
    /// The first one's turn may have come.
    fn wake(&self) {
        if let Some((_, first)) = self.line.first_key_value() {
            first.notify_one();
        }
    }
}

/// Place in the line of an operation, for all its tries.
#[derive(Debug, Default)]
pub(super) struct Number(Option<u64>);

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        // The fields are whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// [`HubError::Throttled`] if the hub does not want to be asked before `latest`.
    pub(super) fn check(&self, latest: Instant) -> Result<(), HubError> {
        let now = Instant::now();
        match self.state().throttle.closed_until(now) {
            Some(until) if until > latest => Err(throttled(until, now)),
            _ => Ok(()),
        }
    }

    /// Waits until the hub may be asked.
    ///
    /// # Errors
    /// [`HubError::Throttled`] as soon as it is known that this is not before `latest`.
    pub(super) async fn enter(
        &self,
        number: &mut Number,
        latest: Instant,
    ) -> Result<Asked<'_>, HubError> {
        let place = {
            let mut state = self.state();
            let number = *number.0.get_or_insert_with(|| {
                state.next += 1;
                state.next
            });
            if state.line.is_empty()
                && let Turn::Now(pass) = state.throttle.turn(Instant::now())
            {
                return Ok(Asked { gate: self, pass });
            }
            let told = Arc::new(Notify::new());
            state.line.insert(number, told.clone());
            Place {
                gate: self,
                number,
                told,
            }
        };
        loop {
            let told = place.told.notified();
            let now = Instant::now();
            let wake = match place.turn(now) {
                _ if now > latest => return Err(HubError::Throttled { retry_after: None }),
                Some(Turn::Now(pass)) => return Ok(Asked { gate: self, pass }),
                Some(Turn::At(until)) if until > latest => return Err(throttled(until, now)),
                Some(Turn::At(until)) => until,
                // A little later, so that it is too late then.
                Some(Turn::Later) | None => latest + Duration::from_millis(1),
            };
            let _ = timeout_at(wake, told).await;
        }
    }
}

fn throttled(until: Instant, now: Instant) -> HubError {
    HubError::Throttled {
        retry_after: Some(until.saturating_duration_since(now)),
    }
}

/// A place in the line; the next may come when it is dropped.
struct Place<'a> {
    gate: &'a Gate,
    number: u64,
    told: Arc<Notify>,
}

impl Place<'_> {
    /// When the hub may be asked, if this is the first in the line.
    fn turn(&self, now: Instant) -> Option<Turn> {
        let mut state = self.gate.state();
        let (first, _) = state.line.first_key_value()?;
        (*first == self.number).then(|| state.throttle.turn(now))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.line.remove(&self.number);
        state.wake();
    }
}

/// An operation that goes to the hub; says what came of it.
pub(super) struct Asked<'a> {
    gate: &'a Gate,
    pass: Pass,
}

impl Asked<'_> {
    /// Awaits the answer.
    pub(super) async fn answer<T>(&mut self, ask: impl Future<Output = T>) -> T {
        let mut ask = pin!(ask);
        if let Ok(answer) = timeout(SAID, &mut ask).await {
            return answer;
        }
        self.tell(Throttle::quiet);
        ask.await
    }

    /// The hub has looked at it.
    pub(super) fn taken(mut self) {
        self.tell(Throttle::taken);
    }

    /// The hub throttles, for so long if it says so.
    pub(super) fn throttled(mut self, after: Option<Duration>) {
        let now = Instant::now();
        self.tell(|throttle, pass| throttle.throttled(pass, after, now));
    }

    fn tell(&mut self, what: impl FnOnce(&mut Throttle, &mut Pass)) {
        let mut state = self.gate.state();
        what(&mut state.throttle, &mut self.pass);
        state.wake();
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.tell(Throttle::ended);
    }
}
