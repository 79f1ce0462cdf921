//! How much services may ask for, and how much they have asked for.
//!
//! Source of the rates: Microsoft Learn, "IoT Hub quotas and throttling" (text of February 2023). The
//! service queues what comes too fast for a while before it refuses (traffic shaping); how long is not
//! published, so that a bucket, whose size a test chooses, stands for it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::operation::Operation;

/// A tier of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// Standard, the smallest.
    S1,
    /// Standard, the next.
    S2,
    /// Standard, the largest.
    S3,
}

impl Tier {
    /// Operations a second that so many units allow. Of methods, an operation is 4 KiB.
    fn rate(self, units: u32, operation: Operation) -> f64 {
        let units = f64::from(units);
        match (operation, self) {
            // 160 KB a second and unit, counted in steps of 4 KB; three times, 150 times that.
            (Operation::Methods, Self::S1) => 40.0 * units,
            (Operation::Methods, Self::S2) => 120.0 * units,
            (Operation::Methods, Self::S3) => 6000.0 * units,
            (Operation::TwinReads, Self::S1) => 100.0,
            (Operation::TwinReads, Self::S2) => (10.0 * units).max(100.0),
            (Operation::TwinReads, Self::S3) => 500.0 * units,
            (Operation::TwinUpdates, Self::S1) => 50.0,
            (Operation::TwinUpdates, Self::S2) => (5.0 * units).max(50.0),
            (Operation::TwinUpdates, Self::S3) => 250.0 * units,
            (Operation::Queries, Self::S1 | Self::S2) => 20.0 / 60.0 * units,
            (Operation::Queries, Self::S3) => 1000.0 / 60.0 * units,
            (Operation::Registry | Operation::C2d | Operation::Jobs, Self::S1 | Self::S2) => {
                100.0 / 60.0 * units
            }
            (Operation::Registry | Operation::C2d | Operation::Jobs, Self::S3) => {
                5000.0 / 60.0 * units
            }
        }
    }

    /// Most jobs that run at once (same source).
    fn jobs(self) -> usize {
        match self {
            Self::S1 => 1,
            Self::S2 => 5,
            Self::S3 => 10,
        }
    }
}

/// Limits that a test asks for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// The tier.
    pub tier: Tier,
    /// How many units.
    #[serde(default = "one")]
    pub units: u32,
    /// What is limited; everything if empty.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// How many seconds of the rate may come at once; one operation may always.
    #[serde(default = "ten")]
    pub burst_seconds: f64,
}

fn one() -> u32 {
    1
}

fn ten() -> f64 {
    10.0
}

/// How often something was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Count {
    /// And let through.
    pub accepted: u64,
    /// And refused as too much.
    pub refused: u64,
    /// And done, but the answer was lost as a test had asked for.
    pub lost: u64,
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    rate: f64,
    size: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// Takes, or tells after how many seconds there would be enough. A cost above the bucket's size
    /// takes a full one.
    fn take(&mut self, cost: f64, now: Instant) -> Result<(), f64> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.rate).min(self.size);
        self.at = now;
        let cost = cost.min(self.size);
        if self.left >= cost {
            self.left -= cost;
            return Ok(());
        }
        Err((cost - self.left) / self.rate)
    }
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<Operation, Count>,
    buckets: BTreeMap<Operation, Bucket>,
    jobs: Option<usize>,
}

/// Counts what services ask for, and limits it if a test wants so.
#[derive(Debug, Default)]
pub struct Meter(Mutex<State>);

impl Meter {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the place of all limits before it. With none there are none.
    pub fn limit(&self, limits: Option<&Limits>) {
        let limited = limits.map(|limits| {
            let chosen = Operation::ALL
                .into_iter()
                .filter(|one| limits.operations.is_empty() || limits.operations.contains(one));
            let now = Instant::now();
            let buckets = chosen.map(|operation| {
                let rate = limits.tier.rate(limits.units.max(1), operation);
                let size = (rate * limits.burst_seconds).max(1.0);
                let (left, at) = (size, now);
                (
                    operation,
                    Bucket {
                        rate,
                        size,
                        left,
                        at,
                    },
                )
            });
            (buckets.collect(), limits.tier.jobs())
        });
        self.with(|state| {
            let (buckets, jobs) = limited.unzip();
            state.buckets = buckets.unwrap_or_default();
            state.jobs = jobs;
        });
    }

    /// Lets an operation of that cost through, or tells in how many seconds it may come again.
    ///
    /// # Errors
    /// The seconds, rounded up.
    pub fn admit(&self, operation: Operation, cost: f64) -> Result<(), u64> {
        self.with(|state| {
            let now = Instant::now();
            let taken = match state.buckets.get_mut(&operation) {
                Some(bucket) => bucket.take(cost, now),
                None => Ok(()),
            };
            let count = state.counts.entry(operation).or_default();
            match taken {
                Ok(()) => count.accepted += 1,
                Err(_) => count.refused += 1,
            }
            // Rates are above one an hour, costs below a bucket: it fits.
            taken.map_err(|seconds| seconds.ceil() as u64)
        })
    }

    /// One was refused for another reason than its rate.
    pub fn refused(&self, operation: Operation) {
        self.with(|state| state.counts.entry(operation).or_default().refused += 1);
    }

    /// The answer of one that was let through is lost.
    pub fn lost(&self, operation: Operation) {
        self.with(|state| state.counts.entry(operation).or_default().lost += 1);
    }

    /// What was asked for up to now.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Operation, Count> {
        self.with(|state| {
            let counted = Operation::ALL.map(|one| {
                let count = state.counts.get(&one).copied();
                (one, count.unwrap_or_default())
            });
            counted.into()
        })
    }

    /// Most jobs that may run at once, if that is limited.
    #[must_use]
    pub fn jobs_at_once(&self) -> Option<usize> {
        self.with(|state| state.jobs)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_fills_with_time_up_to_its_size() {
        let start = Instant::now();
        let mut bucket = Bucket {
            rate: 2.0,
            size: 4.0,
            left: 4.0,
            at: start,
        };
        assert_eq!(bucket.take(4.0, start), Ok(()));
        assert_eq!(bucket.take(1.0, start), Err(0.5));
        assert_eq!(bucket.take(1.0, start + Duration::from_millis(500)), Ok(()));
        assert_eq!(bucket.take(9.0, start + Duration::from_secs(60)), Ok(()));
        assert!(bucket.take(1.0, start + Duration::from_secs(60)).is_err());
    }

    #[test]
    fn only_what_is_limited_is_refused_and_all_is_counted() {
        let meter = Meter::default();
        meter.limit(Some(&Limits {
            tier: Tier::S1,
            units: 1,
            operations: vec![Operation::C2d],
            burst_seconds: 6.0,
        }));
        // 100 a minute: ten in six seconds.
        let through = (0..15).filter(|_| meter.admit(Operation::C2d, 1.0).is_ok());
        assert_eq!(through.count(), 10);
        assert_eq!(meter.admit(Operation::C2d, 1.0), Err(1));
        assert_eq!(meter.admit(Operation::Methods, 1000.0), Ok(()));
        let counts = meter.counts();
        assert_eq!(
            (
                counts[&Operation::C2d].accepted,
                counts[&Operation::C2d].refused
            ),
            (10, 6)
        );
        assert_eq!(meter.jobs_at_once(), Some(1));
        meter.limit(None);
        assert_eq!(meter.admit(Operation::C2d, 1.0), Ok(()));
    }
}
