//! Which node can be trusted with values: a failure status never proves a message bad. Pure.
//!
//! A Thing is the cause of a refused write if its node has written for another a moment ago. Many
//! Things failing is a node that is ill. (That a node answers questions does not prove that it writes:
//! its database may be full.)

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use tokio::time::Instant;

/// Outcomes older than this say nothing of now. Long enough that a quiet platform has some.
const WINDOW: Duration = Duration::from_secs(10);
/// An ill node is left alone for so long, then tried again: its return is noticed within seconds, and
/// a node that never answers costs a request time-out at most this often.
const REST: Duration = Duration::from_secs(5);
/// Failing Things remembered for each node; two would do, some more keep the count steady.
const FAILING: usize = 16;

/// What a refusal proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The Thing itself: the node writes for others.
    Thing,
    /// Nothing: no other Thing has been written to lately, with or without success.
    Unclear,
    /// The node is.
    Node,
}

/// Outcomes of the last moments, by node.
#[derive(Debug, Default)]
pub struct Health {
    records: FxHashMap<Arc<str>, Record>,
    resting: FxHashMap<Arc<str>, Instant>,
    answered: FxHashMap<Arc<str>, Instant>,
}

#[derive(Debug, Default)]
struct Record {
    /// The last two different Things that succeeded.
    succeeded: [Option<(Arc<str>, Instant)>; 2],
    failing: Vec<(Arc<str>, Instant)>,
}

impl Health {
    /// `node` has answered something, whatever it was. Whether it had been resting, and its rest is over.
    pub fn answered(&mut self, node: &Arc<str>, now: Instant) -> bool {
        match self.answered.get_mut(node) {
            Some(last) => *last = now,
            None => _ = self.answered.insert(node.clone(), now),
        }
        let over = self.resting.get(node).is_some_and(|until| *until <= now);
        over && self.resting.remove(node).is_some()
    }

    /// Whether `node` has answered something since: what it was asked before is then done, or never
    /// will be.
    #[must_use]
    pub fn has_answered_since(&self, node: &Arc<str>, since: Instant) -> bool {
        self.answered.get(node).is_some_and(|last| *last > since)
    }

    /// `node` has written values of `thing`.
    pub fn wrote(&mut self, node: &Arc<str>, thing: &Arc<str>, now: Instant) {
        let record = self.records.entry(node.clone()).or_default();
        record.failing.retain(|(failing, _)| failing != thing);
        let same = |one: &Option<(Arc<str>, Instant)>| {
            one.as_ref()
                .is_some_and(|(succeeded, _)| succeeded == thing)
        };
        if !same(&record.succeeded[0]) {
            record.succeeded.swap(0, 1);
        }
        record.succeeded[0] = Some((thing.clone(), now));
    }

    /// `node` has refused values of `thing`. What this proves.
    pub fn refused(&mut self, node: &Arc<str>, thing: &Arc<str>, now: Instant) -> Verdict {
        let record = self.records.entry(node.clone()).or_default();
        let fresh = |at: &Instant| now.duration_since(*at) < WINDOW;
        record
            .failing
            .retain(|(failing, at)| failing != thing && fresh(at));
        let others_fail = !record.failing.is_empty();
        if record.failing.len() < FAILING {
            record.failing.push((thing.clone(), now));
        }
        let others_succeed = record
            .succeeded
            .iter()
            .flatten()
            .any(|(succeeded, at)| succeeded != thing && fresh(at));
        match (others_succeed, others_fail) {
            (true, _) => Verdict::Thing,
            (false, true) => Verdict::Node,
            (false, false) => Verdict::Unclear,
        }
    }

    /// `node` is ill, or does not answer: it is not asked for a while.
    pub fn rest(&mut self, node: &Arc<str>, now: Instant) {
        self.resting.insert(node.clone(), now + REST);
    }

    /// Whether `node` may be asked.
    #[must_use]
    pub fn may_be_asked(&self, node: &Arc<str>, now: Instant) -> bool {
        self.resting.get(node).is_none_or(|until| *until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (Arc<str>, Arc<str>, Arc<str>, Arc<str>) {
        ("node".into(), "a".into(), "b".into(), "c".into())
    }

    #[test]
    fn a_thing_is_the_cause_if_another_succeeds() {
        let (node, a, b, _) = names();
        let (mut health, now) = (Health::default(), Instant::now());
        assert_eq!(health.refused(&node, &a, now), Verdict::Unclear);
        health.wrote(&node, &b, now);
        assert_eq!(health.refused(&node, &a, now), Verdict::Thing);
    }

    #[test]
    fn things_that_fail_together_prove_the_node_ill() {
        let (node, a, b, c) = names();
        let (mut health, now) = (Health::default(), Instant::now());
        health.refused(&node, &a, now);
        assert_eq!(health.refused(&node, &b, now), Verdict::Node);
        assert_eq!(health.refused(&node, &a, now), Verdict::Node);
        health.wrote(&node, &c, now);
        assert_eq!(health.refused(&node, &a, now), Verdict::Thing);
    }

    #[test]
    fn its_own_success_does_not_clear_a_thing_and_old_outcomes_say_nothing() {
        let (node, a, b, _) = names();
        let (mut health, now) = (Health::default(), Instant::now());
        health.wrote(&node, &a, now);
        health.refused(&node, &b, now);
        assert_eq!(
            health.refused(&node, &a, now),
            Verdict::Node,
            "only its own success is known, and another fails too"
        );
        health.wrote(&node, &b, now);
        let later = now + WINDOW;
        health.refused(&node, &b, later);
        assert_eq!(health.refused(&node, &a, later), Verdict::Node);
    }

    #[test]
    fn an_ill_node_rests_and_is_tried_again() {
        let (node, ..) = names();
        let (mut health, now) = (Health::default(), Instant::now());
        assert!(health.may_be_asked(&node, now));
        health.rest(&node, now);
        assert!(!health.may_be_asked(&node, now));
        assert!(health.may_be_asked(&node, now + REST));
    }
}
