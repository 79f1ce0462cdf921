//! Which resource is reconciled next. No clock and no tasks in here: time is a parameter.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{error::Class, store::ObjectKey};

/// Children that were just written are not written again before the first of these, and after each further
/// write the pause doubles up to the last: a burst of edits becomes a few rollouts, and whoever fights for
/// the same fields gets few answers. A look at which nothing had to be written ends it.
const PACE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Children were written, whatever failed after that.
    pub children: bool,
    /// The status was written.
    pub status: bool,
    /// What failed. Without it all is as it should be, or a change must come first.
    pub failed: Option<Class>,
    /// Time alone will make a difference, after this long.
    pub again: Option<Duration>,
}

impl Outcome {
    /// The metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self.failed {
            Some(class) => class.as_str(),
            None if self.children || self.status => "changed",
            None => "unchanged",
        }
    }
}

/// Resources that wait for a reconcile or are in one. A resource waits at most once and is never
/// reconciled twice at the same time.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeMap<ObjectKey, Instant>,
    /// The same, the earliest first.
    order: BTreeSet<(Instant, ObjectKey)>,
    /// In a reconcile; with the time of the next one, if something happened meanwhile.
    running: BTreeMap<ObjectKey, Option<Instant>>,
    attempts: BTreeMap<ObjectKey, u32>,
    /// How many came to wait, all in all.
    added: u64,
    /// How long the resource that was handed out last had been due.
    waited: Duration,
    /// Whose children were written, how often in a row, and when they may be written again.
    paced: BTreeMap<ObjectKey, (u32, Instant)>,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Reconcile this resource; it is marked as running.
    Run(ObjectKey),
    /// Nothing is due before this time.
    At(Instant),
    /// Nothing waits, or no more may run.
    Idle,
}

impl Queue {
    /// Something happened to a resource: reconcile it at `due`, or earlier if it waits already.
    pub fn add(&mut self, key: ObjectKey, due: Instant) {
        let due = self.paced.get(&key).map_or(due, |(_, pace)| due.max(*pace));
        let earliest = |old: Instant| old.min(due);
        if let Some(again) = self.running.get_mut(&key) {
            *again = Some(again.map_or(due, earliest));
            return;
        }
        let old = self.waiting.get(&key).copied();
        self.added += u64::from(old.is_none());
        let due = old.map_or(due, earliest);
        if let Some(old) = old {
            self.order.remove(&(old, key.clone()));
        }
        self.order.insert((due, key.clone()));
        self.waiting.insert(key, due);
    }

    /// The next resource that is due, while fewer than `limit` run.
    pub fn next(&mut self, now: Instant, limit: usize) -> Next {
        if self.running.len() >= limit {
            return Next::Idle;
        }
        match self.order.first() {
            None => return Next::Idle,
            Some((due, _)) if *due > now => return Next::At(*due),
            Some(_) => {}
        }
        let Some((due, key)) = self.order.pop_first() else {
            return Next::Idle;
        };
        self.waited = now.saturating_duration_since(due);
        self.waiting.remove(&key);
        self.running.insert(key.clone(), None);
        Next::Run(key)
    }

    /// A reconcile has ended. After a failure the resource waits twice as long each time, unless
    /// something happens to it.
    pub fn done(&mut self, key: &ObjectKey, outcome: Outcome, now: Instant) {
        let again = self.running.remove(key).flatten();
        if outcome.children {
            let row = self
                .paced
                .get(key)
                .map_or(1, |(row, _)| row.saturating_add(1));
            let pace = (row, now + delay(row, PACE));
            self.paced.insert(key.clone(), pace);
        } else if outcome.failed.is_none() {
            self.paced.remove(key);
        }
        let retry = if let Some(class) = outcome.failed {
            let attempts = self.attempts.entry(key.clone()).or_default();
            *attempts = attempts.saturating_add(1);
            class.backoff().map(|bounds| now + delay(*attempts, bounds))
        } else {
            self.attempts.remove(key);
            None
        };
        let later = outcome.again.map(|after| now + after);
        let due = [retry, again, later].into_iter().flatten().min();
        if let Some(due) = due {
            self.add(key.clone(), due);
        }
    }

    /// How many came to wait, all in all.
    #[must_use]
    pub fn added(&self) -> u64 {
        self.added
    }

    /// How long the resource that was handed out last had been due.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How many wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.waiting.len()
    }

    /// How many failed the last time.
    #[must_use]
    pub fn in_backoff(&self) -> usize {
        self.attempts.len()
    }

    /// Forgets failures of resources that are gone.
    pub fn forget(&mut self, known: &BTreeSet<ObjectKey>) {
        self.attempts.retain(|key, _| known.contains(key));
        self.paced.retain(|key, _| known.contains(key));
    }
}

/// First step, doubled with each attempt up to the last.
fn delay(attempts: u32, (first, last): (Duration, Duration)) -> Duration {
    first
        .saturating_mul(2u32.saturating_pow(attempts.saturating_sub(1).min(16)))
        .min(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("plant", name)
    }

    fn failed(class: Class) -> Outcome {
        Outcome {
            failed: Some(class),
            ..Outcome::default()
        }
    }

    const CHANGED: Outcome = Outcome {
        children: true,
        status: false,
        failed: None,
        again: None,
    };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_resource_waits_once_with_the_earliest_time() {
        let (mut queue, t) = (Queue::default(), Instant::now());
        queue.add(key("a"), t + seconds(5));
        queue.add(key("a"), t + seconds(2));
        queue.add(key("a"), t + seconds(9));
        assert_eq!(queue.next(t, 8), Next::At(t + seconds(2)));
        assert_eq!(queue.next(t + seconds(2), 8), Next::Run(key("a")));
        assert_eq!(queue.next(t + seconds(99), 8), Next::Idle);
    }

    #[test]
    fn what_happens_during_a_reconcile_is_looked_at_after_it() {
        let (mut queue, t) = (Queue::default(), Instant::now());
        queue.add(key("a"), t);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.add(key("a"), t);
        assert_eq!(queue.next(t, 8), Next::Idle, "never twice at the same time");
        queue.done(&key("a"), Outcome::default(), t);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.done(&key("a"), Outcome::default(), t);
        assert_eq!(queue.next(t, 8), Next::Idle);
    }

    #[test]
    fn children_that_were_written_are_looked_at_again_after_a_while() {
        let (mut queue, t) = (Queue::default(), Instant::now());
        queue.add(key("a"), t);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.add(key("a"), t);
        queue.done(&key("a"), CHANGED, t);
        assert_eq!(queue.next(t, 8), Next::At(t + PACE.0));
        queue.add(key("a"), t);
        assert_eq!(queue.next(t, 8), Next::At(t + PACE.0));
        assert_eq!(queue.next(t + PACE.0, 8), Next::Run(key("a")));
        queue.done(&key("a"), Outcome::default(), t + PACE.0);
        queue.add(key("a"), t + PACE.0);
        assert_eq!(queue.next(t + PACE.0, 8), Next::Run(key("a")));
    }

    #[test]
    fn children_written_again_and_again_wait_longer_each_time_even_if_something_failed() {
        let (mut queue, begin) = (Queue::default(), Instant::now());
        let mut t = begin;
        let conflict = Outcome {
            failed: Some(Class::Transient),
            ..CHANGED
        };
        let mut waits = Vec::new();
        for outcome in [CHANGED, conflict, CHANGED, conflict, CHANGED] {
            queue.add(key("a"), t);
            assert_eq!(queue.next(t, 8), Next::Run(key("a")));
            queue.add(key("a"), t);
            queue.done(&key("a"), outcome, t);
            let Next::At(due) = queue.next(t, 8) else {
                panic!("nothing waits")
            };
            waits.push((due - t).as_millis());
            t = due;
        }
        assert_eq!(waits, [500, 1000, 2000, 2000, 2000]);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.done(&key("a"), Outcome::default(), t);
        queue.add(key("a"), t);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
    }

    #[test]
    fn no_more_than_the_limit_run() {
        let (mut queue, t) = (Queue::default(), Instant::now());
        for name in ["a", "b", "c"] {
            queue.add(key(name), t);
        }
        assert!(matches!(queue.next(t, 2), Next::Run(_)));
        assert!(matches!(queue.next(t, 2), Next::Run(_)));
        assert_eq!(queue.next(t, 2), Next::Idle);
    }

    #[test]
    fn failures_wait_longer_each_time_and_success_forgets_them() {
        let (mut queue, mut t) = (Queue::default(), Instant::now());
        queue.add(key("a"), t);
        let mut waits = Vec::new();
        for _ in 0..10 {
            assert_eq!(queue.next(t, 8), Next::Run(key("a")));
            queue.done(&key("a"), failed(Class::Transient), t);
            let Next::At(due) = queue.next(t, 8) else {
                panic!("nothing waits")
            };
            waits.push((due - t).as_secs());
            t = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(queue.in_backoff(), 1);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.done(&key("a"), Outcome::default(), t);
        assert_eq!((queue.in_backoff(), queue.next(t, 8)), (0, Next::Idle));
    }

    #[test]
    fn a_fault_of_the_user_waits_for_a_change() {
        let (mut queue, t) = (Queue::default(), Instant::now());
        queue.add(key("a"), t);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.done(&key("a"), failed(Class::User), t);
        assert_eq!(queue.next(t + seconds(10_000), 8), Next::Idle);
        queue.add(key("a"), t + seconds(10_000));
        assert_eq!(queue.next(t + seconds(10_000), 8), Next::Run(key("a")));
    }

    #[test]
    fn a_change_ends_the_wait_of_a_failed_resource() {
        let (mut queue, t) = (Queue::default(), Instant::now());
        queue.add(key("a"), t);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.done(&key("a"), failed(Class::Denied), t);
        queue.add(key("a"), t + seconds(1));
        assert_eq!(queue.next(t, 8), Next::At(t + seconds(1)));
    }
}
