//! How long to wait before connecting again. Pure but for the drawn number.

use std::time::Duration;

/// After the first failure: most are a hub's own reconnection, over in no time.
const FIRST: Duration = Duration::from_millis(250);
/// The hub's return is noticed within this.
const LONGEST: Duration = Duration::from_secs(30);
/// A link that has lived so long was a good one.
const PROVEN: Duration = Duration::from_secs(30);

/// Exponential, and jittered, so that pods that lost the hub together do not return together.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    failures: u32,
}

impl Pause {
    /// The next pause; `draw` is from 0 up to 1.
    pub(crate) fn next(&mut self, draw: f64) -> Duration {
        let whole = FIRST
            .saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
    }

    /// A link has ended that lived for `lived`.
    pub(crate) fn ended(&mut self, lived: Duration) {
        if lived >= PROVEN {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest() {
        let mut pause = Pause::default();
        let whole: Vec<_> = (0..10).map(|_| pause.next(1.0).as_millis()).collect();
        assert_eq!(
            whole,
            [
                250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000
            ]
        );
        for _ in 0..100 {
            assert_eq!(pause.next(0.0), LONGEST / 2);
        }
    }

    #[test]
    fn it_starts_anew_only_after_a_link_that_held() {
        let mut pause = Pause::default();
        pause.next(1.0);
        pause.ended(Duration::from_secs(1));
        assert_eq!(pause.next(1.0), FIRST * 2);
        pause.ended(PROVEN);
        assert_eq!(pause.next(1.0), FIRST);
    }
}
