//! How often the same trouble is told. Pure.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// For each Thing and reason so many reports in a [`WINDOW`]: enough to see what is wrong with a device,
/// few enough for a platform that has a thousand such devices.
const REPORTS: u32 = 10;
/// How long a quota lasts.
const WINDOW: Duration = Duration::from_secs(60);
/// Things and reasons that are told apart in a window, 16 bytes each. A flood of more is only counted.
const KEYS: usize = 10_000;

/// Reports told in this window.
#[derive(Debug)]
pub struct Quota<R> {
    since: Instant,
    told: HashMap<(u64, R), u32>,
    hasher: RandomState,
}

impl<R: Copy + Eq + std::hash::Hash> Quota<R> {
    /// Nothing has been told.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            told: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Whether another report may be told, and counts it.
    pub fn take(&mut self, thing: &str, reason: R, now: Instant) -> bool {
        if now - self.since >= WINDOW {
            self.told.clear();
            self.since = now;
        }
        // Names may be long, and two that share a hash only share their quota.
        let key = (self.hasher.hash_one(thing), reason);
        if self.told.len() >= KEYS && !self.told.contains_key(&key) {
            return false;
        }
        let told = self.told.entry(key).or_default();
        *told += 1;
        *told <= REPORTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_and_reason_has_a_quota_of_its_own_for_a_while() {
        let begun = Instant::now();
        let mut quota = Quota::new(begun);
        for _ in 0..REPORTS {
            assert!(quota.take("a", 1, begun));
        }
        assert!(!quota.take("a", 1, begun));
        assert!(quota.take("a", 2, begun));
        assert!(quota.take("b", 1, begun));
        assert!(!quota.take("a", 1, begun + WINDOW / 2));
        assert!(quota.take("a", 1, begun + WINDOW));
    }

    #[test]
    fn a_flood_of_things_takes_a_bounded_memory() {
        let begun = Instant::now();
        let mut quota = Quota::new(begun);
        for index in 0..2 * KEYS {
            assert_eq!(quota.take(&index.to_string(), 1, begun), index < KEYS);
        }
        assert_eq!(quota.told.len(), KEYS);
        assert!(quota.take("0", 1, begun), "what is known goes on");
    }
}
