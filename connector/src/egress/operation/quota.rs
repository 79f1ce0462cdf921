//! What the hub's tier and units allow this member, if the settings tell them.
//!
//! Source of the rates: Microsoft Learn, "IoT Hub quotas and throttling", "Operation throttles". The service
//! delays what comes too fast for a while before it refuses; for how long is not published.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use connector_config::Tier;
use iothub::HubError;
use tokio::time::Instant;

use super::{
    bucket::{Bucket, Rate},
    limit::{SORTS, Sort},
};
use crate::member::Members;

/// Seconds of the hub's rate that may come at once, of all members together: short peaks pass undelayed, and the
/// hub, which counts over longer times, does not refuse them.
const BURST: f64 = 10.0;

/// A hub as large as this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Its tier.
    pub tier: Tier,
    /// How many units of it.
    pub units: u16,
}

impl Size {
    /// Operations a second that the hub takes, of methods pieces of 4 KiB. None: it does not offer them at all,
    /// and says so itself.
    fn per_second(self, sort: Sort) -> Option<f64> {
        let units = f64::from(self.units);
        let minute = |count: f64| count / 60.0 * units;
        let (column, basic) = match self.tier {
            Tier::F1 | Tier::S1 => (Column::First, false),
            Tier::B1 => (Column::First, true),
            Tier::S2 => (Column::Second, false),
            Tier::B2 => (Column::Second, true),
            Tier::S3 => (Column::Third, false),
            Tier::B3 => (Column::Third, true),
        };
        let rate = match (sort, column) {
            (Sort::Registry, Column::First | Column::Second) => minute(100.0),
            (Sort::Registry, Column::Third) => minute(5000.0),
            (Sort::Query, Column::First | Column::Second) => minute(20.0),
            (Sort::Query, Column::Third) => minute(1000.0),
            _ if basic => return None,
            (Sort::Message | Sort::Job, Column::First | Column::Second) => minute(100.0),
            (Sort::Message | Sort::Job, Column::Third) => minute(5000.0),
            // 160 KB, 480 KB and 24 MB a second and unit.
            (Sort::Method, Column::First) => 40.0 * units,
            (Sort::Method, Column::Second) => 120.0 * units,
            (Sort::Method, Column::Third) => 6000.0 * units,
            (Sort::TwinRead, Column::First) => 100.0,
            (Sort::TwinRead, Column::Second) => (10.0 * units).max(100.0),
            (Sort::TwinRead, Column::Third) => 500.0 * units,
            (Sort::TwinWrite, Column::First) => 50.0,
            (Sort::TwinWrite, Column::Second) => (5.0 * units).max(50.0),
            (Sort::TwinWrite, Column::Third) => 250.0 * units,
        };
        Some(rate)
    }
}

/// A column of the table of throttles.
#[derive(Clone, Copy)]
enum Column {
    First,
    Second,
    Third,
}

/// Gives each operation its turn within this member's part of the hub's rates.
#[derive(Debug)]
pub(super) struct Quota {
    size: Size,
    /// Who shares it.
    members: Members,
    buckets: Mutex<[Bucket; SORTS]>,
}

impl Quota {
    pub(super) fn new(size: Size, members: Members) -> Self {
        let bucket = Bucket::new(Instant::now());
        Self {
            size,
            members,
            buckets: Mutex::new([bucket; SORTS]),
        }
    }

    /// When an operation of so much cost may go to the hub.
    ///
    /// # Errors
    /// [`HubError::BeyondQuota`] if that is later than `latest`.
    pub(super) fn turn(&self, sort: Sort, cost: f64, latest: Instant) -> Result<Instant, HubError> {
        let now = Instant::now();
        let Some(whole) = self.size.per_second(sort) else {
            return Ok(now);
        };
        let part = whole / self.members.count();
        let rate = Rate {
            per_second: part,
            // One must be possible, however many share.
            burst: (part * BURST).max(1.0),
        };
        // Each bucket is whole at any time.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets[sort as usize]
            .take(rate, cost, now, latest)
            .map_err(|wait| self.refused(wait))
    }

    fn refused(&self, wait: Duration) -> HubError {
        HubError::BeyondQuota {
            tier: self.size.tier.name(),
            units: self.size.units,
            wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::{sync::watch, time::advance};

    use super::*;
    use crate::identity::MemberId;

    const SIZE: Size = Size {
        tier: Tier::S1,
        units: 6,
    };

    fn members(count: usize) -> BTreeSet<MemberId> {
        let ids = (0..count).map(|n| MemberId::new(n.to_string()));
        ids.collect()
    }

    /// How many messages may go now.
    fn messages(quota: &Quota) -> usize {
        let now = Instant::now();
        std::iter::repeat_with(|| quota.turn(Sort::Message, 1.0, now))
            .take_while(Result::is_ok)
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn members_share_the_hubs_rate_and_follow_their_number() {
        let (tell, heard) = watch::channel(members(1));
        let quota = Quota::new(SIZE, Members::new(heard));
        assert_eq!(messages(&quota), 0, "a start brings nothing with it");
        // 600 a minute: ten a second.
        advance(Duration::from_secs(60)).await;
        assert_eq!(messages(&quota), 100);
        tell.send_replace(members(2));
        advance(Duration::from_secs(2)).await;
        assert_eq!(messages(&quota), 10);
        advance(Duration::from_secs(60)).await;
        assert_eq!(messages(&quota), 50);
        tell.send_replace(members(1));
        advance(Duration::from_secs(2)).await;
        assert_eq!(messages(&quota), 20, "at once, and for no time before");
    }

    #[tokio::test(start_paused = true)]
    async fn who_must_wait_too_long_is_told_tier_and_units() {
        let (_tell, heard) = watch::channel(members(1));
        let quota = Quota::new(SIZE, Members::new(heard));
        let latest = Instant::now() + Duration::from_secs(2);
        for _ in 0..20 {
            assert!(quota.turn(Sort::Message, 1.0, latest).is_ok());
        }
        let refused = quota.turn(Sort::Message, 1.0, latest).unwrap_err();
        assert_eq!(refused.class(), iothub::Class::Throttled);
        let text = refused.to_string();
        assert!(text.contains("tier S1 and units 6"), "{text}");
        assert!(quota.turn(Sort::Registry, 1.0, latest).is_ok());
    }

    #[test]
    fn what_a_tier_does_not_offer_is_left_to_the_hub() {
        let free = Size {
            tier: Tier::F1,
            units: 1,
        };
        let basic = Size {
            tier: Tier::B1,
            units: 1,
        };
        assert_eq!(free.per_second(Sort::Method), Some(40.0));
        assert_eq!(basic.per_second(Sort::Method), None);
        assert_eq!(
            basic.per_second(Sort::Registry),
            free.per_second(Sort::Registry)
        );
    }
}
