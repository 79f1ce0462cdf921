//! How fast a partition is read while it is far behind: spares the platform after an outage. Pure.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// A partition that is so far behind catches up, by the hub's own times; what is nearer is read as it
/// comes.
const BEHIND_S: i64 = 30;
/// What may be taken at once after a pause.
const BURST: Duration = Duration::from_secs(1);

/// The allowance of one partition.
#[derive(Debug)]
pub struct Pace {
    per_second: f64,
    allowance: f64,
    since: Option<Instant>,
    catching_up: bool,
}

impl Pace {
    /// So many events a second while catching up.
    pub fn new(per_second: NonZeroU32) -> Self {
        let per_second = f64::from(per_second.get());
        Self {
            per_second,
            allowance: per_second * BURST.as_secs_f64(),
            since: None,
            catching_up: false,
        }
    }

    /// Time has passed, and the partition is so many seconds behind.
    pub fn tick(&mut self, now: Instant, behind_s: i64) {
        let passed = self.since.map_or(Duration::ZERO, |since| now - since);
        self.since = Some(now);
        let most = self.per_second * BURST.as_secs_f64();
        self.allowance = (self.allowance + self.per_second * passed.as_secs_f64()).min(most);
        self.catching_up = behind_s >= BEHIND_S;
    }

    /// How many events may be taken now, `most` at once.
    #[must_use]
    pub fn room(&self, most: usize) -> usize {
        if !self.catching_up {
            return most;
        }
        // Not negative, and small enough: the burst of a `u32`.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let allowed = self.allowance.max(0.0) as usize;
        allowed.min(most)
    }

    /// So many were taken.
    pub fn took(&mut self, events: usize) {
        if self.catching_up {
            self.allowance -= f64::from(u32::try_from(events).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_while_behind_and_only_then() {
        let begun = Instant::now();
        let mut pace = Pace::new(NonZeroU32::new(100).unwrap());
        assert_eq!(pace.room(500), 500, "nothing is known of a lag");
        let mut taken = 0;
        // Ten seconds in ticks of half a second.
        for tick in 0..=20 {
            pace.tick(begun + Duration::from_millis(500 * tick), 60);
            let room = pace.room(500);
            pace.took(room);
            taken += room;
        }
        assert_eq!(taken, 100 + 10 * 100, "a burst of a second and ten seconds");
        pace.tick(begun + Duration::from_secs(11), 29);
        assert_eq!(pace.room(500), 500);
    }
}
