//! How long something took, many times over, without a list of them all.

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Longest time that is told apart from longer ones, in microseconds: a minute.
const LONGEST_US: u64 = 60_000_000;
/// Significant digits: 1 % is finer than any two runs agree.
const DIGITS: u8 = 2;

/// Times in microseconds.
#[derive(Debug)]
pub struct Times {
    /// `None` only if its bounds were nonsense.
    histogram: Option<Histogram<u64>>,
    /// To the microsecond: it is what a time-out is compared with.
    longest: u64,
}

/// Times as they are told, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimesView {
    /// Half took no longer.
    pub p50_us: u64,
    /// Nine in ten.
    pub p90_us: u64,
    /// And so on.
    pub p99_us: u64,
    /// And so on.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            histogram: Histogram::new_with_max(LONGEST_US, DIGITS).ok(),
            longest: 0,
        }
    }
}

impl Times {
    /// Begins anew.
    pub fn clear(&mut self) {
        self.longest = 0;
        if let Some(histogram) = &mut self.histogram {
            histogram.reset();
        }
    }

    /// Notes one.
    pub fn note(&mut self, us: u64) {
        self.longest = self.longest.max(us);
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(us);
        }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// What is told of them.
    #[must_use]
    pub fn view(&self) -> TimesView {
        let at = |quantile| {
            let histogram = self.histogram.as_ref();
            histogram.map_or(0, |times| times.value_at_quantile(quantile))
        };
        TimesView {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.longest,
        }
    }
}

/// Now, by the clock that never goes back and that all processes of a machine share.
#[must_use]
pub fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut times = Times::default();
        for us in 1..=1000 {
            times.note(us * 10);
        }
        let view = times.view();
        let near = |got: u64, wanted: u64| got.abs_diff(wanted) * 50 <= wanted;
        assert!(near(view.p50_us, 5000) && near(view.p99_us, 9900) && view.max_us == 10_000);
        times.clear();
        assert_eq!((times.count(), times.view().max_us), (0, 0));
    }
}
