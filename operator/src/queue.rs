//! Which resource is reconciled next. No clock and no tasks in here: time is a parameter.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{error::Class, store::ObjectKey};

/// Children that were just written are not written again before: a burst of edits becomes a few rollouts,
/// and somebody who writes the same fields gets no more than two answers a second.
const PACE: Duration = Duration::from_millis(500);

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is as it should be, or a change must come first.
    Settled,
    /// All is as it should be, after writes of children.
    Changed,
    /// Something failed.
    Failed(Class),
}

/// Resources that wait for a reconcile or are in one. A resource waits at most once and is never
/// reconciled twice at the same time.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeMap<ObjectKey, Instant>,
    /// In a reconcile; with the time of the next one, if something happened meanwhile.
    running: BTreeMap<ObjectKey, Option<Instant>>,
    attempts: BTreeMap<ObjectKey, u32>,
    /// Whose children were written, and when they may be written again.
    paced: BTreeMap<ObjectKey, Instant>,
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
        let due = self.paced.get(&key).map_or(due, |pace| due.max(*pace));
        let earliest = |old: Instant| old.min(due);
        if let Some(again) = self.running.get_mut(&key) {
            *again = Some(again.map_or(due, earliest));
        } else {
            self.waiting
                .entry(key)
                .and_modify(|old| *old = earliest(*old))
                .or_insert(due);
        }
    }

    /// The next resource that is due, while fewer than `limit` run.
    pub fn next(&mut self, now: Instant, limit: usize) -> Next {
        if self.running.len() >= limit {
            return Next::Idle;
        }
        let Some((key, due)) = self.waiting.iter().min_by_key(|(_, due)| **due) else {
            return Next::Idle;
        };
        if *due > now {
            return Next::At(*due);
        }
        let key = key.clone();
        self.waiting.remove(&key);
        self.running.insert(key.clone(), None);
        Next::Run(key)
    }

    /// A reconcile has ended. After a failure the resource waits twice as long each time, unless
    /// something happens to it.
    pub fn done(&mut self, key: &ObjectKey, outcome: Outcome, now: Instant) {
        let again = self.running.remove(key).flatten();
        let due = match outcome {
            Outcome::Settled => {
                self.attempts.remove(key);
                self.paced.remove(key);
                again
            }
            Outcome::Changed => {
                self.attempts.remove(key);
                self.paced.insert(key.clone(), now + PACE);
                again
            }
            Outcome::Failed(class) => {
                let attempts = self.attempts.entry(key.clone()).or_default();
                *attempts = attempts.saturating_add(1);
                let retry = class.backoff().map(|bounds| now + delay(*attempts, bounds));
                match (retry, again) {
                    (Some(retry), Some(again)) => Some(retry.min(again)),
                    (retry, again) => retry.or(again),
                }
            }
        };
        if let Some(due) = due {
            self.add(key.clone(), due);
        }
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
        queue.done(&key("a"), Outcome::Settled, t);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.done(&key("a"), Outcome::Settled, t);
        assert_eq!(queue.next(t, 8), Next::Idle);
    }

    #[test]
    fn children_that_were_written_are_looked_at_again_after_a_while() {
        let (mut queue, t) = (Queue::default(), Instant::now());
        queue.add(key("a"), t);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.add(key("a"), t);
        queue.done(&key("a"), Outcome::Changed, t);
        assert_eq!(queue.next(t, 8), Next::At(t + PACE));
        queue.add(key("a"), t);
        assert_eq!(queue.next(t, 8), Next::At(t + PACE));
        assert_eq!(queue.next(t + PACE, 8), Next::Run(key("a")));
        queue.done(&key("a"), Outcome::Settled, t + PACE);
        queue.add(key("a"), t + PACE);
        assert_eq!(queue.next(t + PACE, 8), Next::Run(key("a")));
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
            queue.done(&key("a"), Outcome::Failed(Class::Transient), t);
            let Next::At(due) = queue.next(t, 8) else {
                panic!("nothing waits")
            };
            waits.push((due - t).as_secs());
            t = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(queue.in_backoff(), 1);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.done(&key("a"), Outcome::Settled, t);
        assert_eq!((queue.in_backoff(), queue.next(t, 8)), (0, Next::Idle));
    }

    #[test]
    fn a_fault_of_the_user_waits_for_a_change() {
        let (mut queue, t) = (Queue::default(), Instant::now());
        queue.add(key("a"), t);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.done(&key("a"), Outcome::Failed(Class::User), t);
        assert_eq!(queue.next(t + seconds(10_000), 8), Next::Idle);
        queue.add(key("a"), t + seconds(10_000));
        assert_eq!(queue.next(t + seconds(10_000), 8), Next::Run(key("a")));
    }

    #[test]
    fn a_change_ends_the_wait_of_a_failed_resource() {
        let (mut queue, t) = (Queue::default(), Instant::now());
        queue.add(key("a"), t);
        assert_eq!(queue.next(t, 8), Next::Run(key("a")));
        queue.done(&key("a"), Outcome::Failed(Class::Denied), t);
        queue.add(key("a"), t + seconds(1));
        assert_eq!(queue.next(t, 8), Next::At(t + seconds(1)));
    }
}
