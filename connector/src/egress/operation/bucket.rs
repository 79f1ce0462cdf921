//! How much may be spent, and when. Pure: whoever asks says what time it is.

use std::time::Duration;

use tokio::time::Instant;

/// How fast a bucket fills.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    /// Operations a second; above zero.
    pub(super) per_second: f64,
    /// How many may come at once after a rest.
    pub(super) burst: f64,
}

/// Lets through as much as its rate gives, in the order in which it is asked: whoever has to wait has their
/// turn at once, so that those who ask later cannot take it from them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// What is left, as of `at`. Below zero is what has been promised already.
    left: f64,
    at: Instant,
}

impl Bucket {
    /// An empty one: a pod that starts again and again must not have a burst each time. By the time that the
    /// platform knows a pod, it has filled for seconds.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: 0.0, at: now }
    }

    /// When `cost` may be spent. What is larger than a burst waits until it has been earned.
    ///
    /// # Errors
    /// How long it would have to wait, if that is beyond `latest`; nothing is taken then.
    pub(super) fn take(
        &mut self,
        rate: Rate,
        cost: f64,
        now: Instant,
        latest: Instant,
    ) -> Result<Instant, Duration> {
        let Rate { per_second, burst } = rate;
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let left = (self.left + passed * per_second).min(burst) - cost;
        let wait = (-left / per_second).max(0.0);
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX);
        if wait > latest.saturating_duration_since(now) {
            return Err(wait);
        }
        self.left = left;
        self.at = self.at.max(now);
        Ok(now + wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Instants are kept in nanoseconds.
    const ROUNDING: f64 = 1e-3;

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn after_a_rest_a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let rate = Rate {
            per_second: 2.0,
            burst: 4.0,
        };
        let mut bucket = Bucket::new(start);
        let far = start + Duration::from_secs(100);
        assert_eq!(bucket.take(rate, 1.0, start, far), Ok(start + millis(500)));
        let rested = start + Duration::from_secs(60);
        for wait in [0, 0, 0, 0, 500, 1000] {
            let turn = bucket.take(rate, 1.0, rested, far);
            assert_eq!(turn, Ok(rested + millis(wait)));
        }
        let late = bucket.take(rate, 1.0, rested, rested + millis(1400));
        assert_eq!(late, Err(millis(1500)));
        // Who was refused has taken nothing.
        let turn = bucket.take(rate, 1.0, rested, far);
        assert_eq!(turn, Ok(rested + millis(1500)));
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_a_burst_and_the_rate_and_nobody_is_overtaken(
            per_second in 0.05..1000.0_f64,
            seconds in 0.0..10.0_f64,
            // Pause before it, cost, patience in milliseconds.
            asked in prop::collection::vec((0..3000_u64, 1..40_u32, 0..30_000_u64), 1..60),
        ) {
            let rate = Rate { per_second, burst: (per_second * seconds).max(1.0) };
            let mut now = Instant::now();
            let mut bucket = Bucket::new(now);
            let mut turns: Vec<(Instant, f64)> = Vec::new();
            for (pause, cost, patience) in asked {
                now += millis(pause);
                let (cost, latest) = (f64::from(cost), now + millis(patience));
                // All that was promised before it and itself are earned by then.
                let before: f64 = turns.iter().filter(|(at, _)| *at > now).map(|(_, cost)| cost).sum();
                let longest = (before + cost) / per_second + ROUNDING;
                match bucket.take(rate, cost, now, latest) {
                    Ok(turn) => {
                        prop_assert!(turn >= now && turn <= latest);
                        prop_assert!((turn - now).as_secs_f64() <= longest + cost / per_second);
                        prop_assert!(turns.last().is_none_or(|(last, _)| *last <= turn), "overtaken");
                        turns.push((turn, cost));
                    }
                    Err(wait) => prop_assert!(now + wait > latest),
                }
            }
            for (first, (from, _)) in turns.iter().enumerate() {
                let mut spent = 0.0;
                for (to, cost) in &turns[first..] {
                    spent += cost;
                    let earned = (*to - *from).as_secs_f64() * per_second;
                    let largest = turns.iter().map(|(_, cost)| *cost).fold(rate.burst, f64::max);
                    prop_assert!(
                        spent <= largest + earned + ROUNDING * per_second.max(1.0),
                        "{spent} in a window that earned {earned}"
                    );
                }
            }
        }
    }
}
