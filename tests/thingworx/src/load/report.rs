//! What became of a load's requests.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use alwayson::Response;
use serde::Serialize;

use crate::{
    cluster::lock,
    draw::{self, NoAnswer},
    times::{Times, TimesView, monotonic_us},
};

/// Outcomes that are told apart; what comes beyond is one more.
const OUTCOMES: usize = 32;
const OTHERS: &str = "others";
/// Requests that were done are counted for so long each.
const SLICE: Duration = Duration::from_millis(100);

/// A load as it is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadView {
    /// When it began, in microseconds of the machine's monotonic clock.
    pub began_us: u64,
    /// Requests that were due.
    pub due: u64,
    /// Of these, those for which there was no room: too many were under way.
    pub not_started: u64,
    /// How many came to what: the answer's status, and of an error its reason with `#` for each number and
    /// `…` for the Thing.
    pub outcomes: BTreeMap<String, u64>,
    /// How many were done in each tenth of a second from the beginning.
    pub done: Vec<u64>,
    /// From when they were due until they were answered, or given up.
    #[serde(flatten)]
    pub took: TimesView,
    /// From when they were due until they were sent: what of the above is the sender's own.
    pub late: TimesView,
}

/// A load under way.
pub(super) struct Report {
    began_us: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    due: u64,
    not_started: u64,
    outcomes: BTreeMap<String, u64>,
    done: Vec<u64>,
    took: Times,
    late: Times,
}

impl Report {
    /// The load begins now.
    pub(super) fn begin() -> Self {
        Self {
            began_us: monotonic_us(),
            state: Mutex::default(),
        }
    }

    /// One was due, and there was no room for it.
    pub(super) fn not_started(&self) {
        let mut state = lock(&self.state);
        state.due += 1;
        state.not_started += 1;
    }

    /// One is sent, so long after it was due.
    pub(super) fn started(&self, late: Duration) {
        let mut state = lock(&self.state);
        state.due += 1;
        state.late.note(us(late));
    }

    /// It has come to something, so long after it was due.
    pub(super) fn ended(&self, thing: &str, answer: &Result<Response, NoAnswer>, took: Duration) {
        let since = Duration::from_micros(monotonic_us().saturating_sub(self.began_us));
        let mut outcome = draw::outcome(answer).to_owned();
        let done = answer.as_ref().is_ok_and(draw::succeeded);
        if let Ok(response) = answer
            && let Some(reason) = response.error_text().filter(|_| !done)
        {
            outcome = format!("{outcome}: {}", class(&reason, thing));
        }
        let mut state = lock(&self.state);
        state.took.note(us(took));
        state.count(outcome);
        if done {
            state.done(since);
        }
    }

    /// What is told of it.
    pub(super) fn view(&self) -> LoadView {
        let state = lock(&self.state);
        LoadView {
            began_us: self.began_us,
            due: state.due,
            not_started: state.not_started,
            outcomes: state.outcomes.clone(),
            done: state.done.clone(),
            took: state.took.view(),
            late: state.late.view(),
        }
    }
}

impl State {
    fn count(&mut self, outcome: String) {
        let known = self.outcomes.len() < OUTCOMES || self.outcomes.contains_key(&outcome);
        let outcome = if known { outcome } else { OTHERS.to_owned() };
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    fn done(&mut self, since: Duration) {
        // A load and its last answers are minutes.
        let slice = usize::try_from(since.as_millis() / SLICE.as_millis()).unwrap_or(0);
        if self.done.len() <= slice {
            self.done.resize(slice + 1, 0);
        }
        self.done[slice] += 1;
    }
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A reason without what differs from one request to the next.
fn class(reason: &str, thing: &str) -> String {
    let mut class = String::with_capacity(reason.len());
    for c in reason.replace(thing, "…").chars() {
        match c {
            '0'..='9' if class.ends_with('#') => {}
            '0'..='9' => class.push('#'),
            c => class.push(c),
        }
    }
    class
}

#[cfg(test)]
mod tests {
    use alwayson::Status;

    use super::*;

    #[test]
    fn a_reason_is_the_same_for_all_things_and_numbers() {
        let one = class("the hub throttles; ask again in 12 s (device d-7)", "d-7");
        assert_eq!(one, "the hub throttles; ask again in # s (device …)");
    }

    #[test]
    fn outcomes_are_counted_by_status_and_reason_up_to_a_bound() {
        let report = Report::begin();
        let busy = |reason: &str| Ok(Response::error(Status::SERVICE_UNAVAILABLE, reason));
        for number in 0..5 {
            let reason = format!("{number} wait for d-1");
            report.started(Duration::ZERO);
            report.ended("d-1", &busy(&reason), Duration::from_millis(1));
        }
        report.started(Duration::ZERO);
        report.ended("d-1", &Ok(Response::ok()), Duration::from_secs(1));
        report.started(Duration::ZERO);
        report.ended("d-1", &Err(NoAnswer::Lost), Duration::from_secs(1));
        report.not_started();
        let view = report.view();
        assert_eq!((view.due, view.not_started), (8, 1));
        let counted: Vec<(&str, u64)> = view
            .outcomes
            .iter()
            .map(|(name, n)| (&**name, *n))
            .collect();
        let busy_class = "SERVICE_UNAVAILABLE: # wait for …";
        assert_eq!(counted, [("LOST", 1), (busy_class, 5), ("SUCCESS", 1)]);
        assert_eq!(view.done.iter().sum::<u64>(), 1);

        let mut state = State::default();
        for letter in 'A'..='z' {
            state.count(letter.to_string());
        }
        assert_eq!(state.outcomes.len(), OUTCOMES + 1);
        assert_eq!(
            state.outcomes.values().sum::<u64>(),
            u64::from('z') - u64::from('A') + 1
        );
    }
}
