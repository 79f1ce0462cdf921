//! How much the hub is asked of one sort of operation once it has throttled. Pure: whoever asks says what time it is.
//!
//! When its pause is over one operation goes, and each that the hub takes lets two more go: so few go in vain, and
//! within some round trips everything does if the hub allows it.

use std::time::Duration;

use tokio::time::Instant;

/// First pause after a throttling that says nothing of time, doubled with each further one up to the last:
/// the hub's own limits are counted by the second, and its queues are short.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// A hub that has taken so many since its pause does not throttle any more: as many as may wait.
const WIDE: u32 = 256;

/// What is known of the hub's throttling.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Counts how often the hub has throttled, so that answers to what was asked before are told apart.
    round: u64,
    /// While it may throttle again.
    narrow: Option<Narrow>,
}

#[derive(Debug)]
struct Narrow {
    until: Instant,
    /// Throttlings since the hub has last taken something.
    row: u32,
    /// How many may be under way, and how many are.
    width: u32,
    under_way: u32,
}

/// When the hub may be asked.
#[derive(Debug)]
pub(super) enum Turn {
    Now(Pass),
    At(Instant),
    /// Once what is under way is answered.
    Later,
}

/// An operation that has gone to the hub.
#[derive(Debug)]
pub(super) struct Pass {
    round: u64,
    /// It is among those under way.
    counted: bool,
}

impl Throttle {
    /// When the next operation may go; it goes if that is now.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        let counted = match &mut self.narrow {
            None => false,
            Some(narrow) if narrow.until > now => return Turn::At(narrow.until),
            Some(narrow) if narrow.under_way >= narrow.width => return Turn::Later,
            Some(narrow) => {
                narrow.under_way += 1;
                true
            }
        };
        Turn::Now(Pass {
            round: self.round,
            counted,
        })
    }

    /// When the hub wants to be asked again.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        let until = self.narrow.as_ref().map(|narrow| narrow.until);
        until.filter(|until| *until > now)
    }

    /// The hub has looked at it. What was asked before a throttling does not end that.
    pub(super) fn taken(&mut self, pass: &mut Pass) {
        if pass.round == self.round
            && let Some(narrow) = &mut self.narrow
        {
            narrow.row = 0;
        }
        self.quiet(pass);
    }

    /// The hub, which says at once if it throttles, has not.
    pub(super) fn quiet(&mut self, pass: &mut Pass) {
        let Some(narrow) = self.leave(pass) else {
            return;
        };
        narrow.width += 1;
        if narrow.width > WIDE {
            self.narrow = None;
        }
    }

    /// The hub throttles. Those who were throttled together make it no longer.
    pub(super) fn throttled(&mut self, pass: &mut Pass, after: Option<Duration>, now: Instant) {
        self.leave(pass);
        let old = self.narrow.as_ref();
        if pass.round != self.round && after.is_none() {
            return;
        }
        let row = old.map_or(0, |narrow| narrow.row);
        let (first, last) = PAUSE;
        let own = first.saturating_mul(1 << row.min(8)).min(last);
        let until = now + after.unwrap_or(own);
        let until = old.map_or(until, |narrow| narrow.until.max(until));
        self.round += 1;
        self.narrow = Some(Narrow {
            until,
            row: row.saturating_add(1),
            width: 1,
            under_way: 0,
        });
    }

    /// It is not under way any more, and nobody knows whether the hub throttles.
    pub(super) fn ended(&mut self, pass: &mut Pass) {
        self.leave(pass);
    }

    /// Gives its place free; tells what is known if that still concerns it.
    fn leave(&mut self, pass: &mut Pass) -> Option<&mut Narrow> {
        let counted = std::mem::take(&mut pass.counted);
        let narrow = self
            .narrow
            .as_mut()
            .filter(|_| counted && pass.round == self.round)?;
        narrow.under_way -= 1;
        Some(narrow)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A hub that lets so many through, and later all.
    struct Hub {
        per_second: f64,
        burst: f64,
        left: f64,
        at: Instant,
        lifted: Instant,
    }

    impl Hub {
        fn takes(&mut self, now: Instant) -> bool {
            let passed = now.duration_since(self.at).as_secs_f64();
            self.left = (self.left + passed * self.per_second).min(self.burst);
            self.at = now;
            if now >= self.lifted {
                return true;
            }
            let takes = self.left >= 1.0;
            self.left -= f64::from(u8::from(takes));
            takes
        }
    }

    fn go(throttle: &mut Throttle, now: Instant) -> Option<Pass> {
        match throttle.turn(now) {
            Turn::Now(pass) => Some(pass),
            Turn::At(_) | Turn::Later => None,
        }
    }

    #[test]
    fn one_goes_first_and_each_that_is_taken_lets_two_more_go() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        let mut all: Vec<Pass> = (0..4).filter_map(|_| go(&mut throttle, now)).collect();
        assert_eq!(all.len(), 4, "nothing is held back before the hub does");
        let mut early = all.pop().unwrap();
        for pass in &mut all {
            throttle.throttled(pass, None, now);
        }
        assert_eq!(throttle.closed_until(now), Some(now + PAUSE.0));
        throttle.taken(&mut early);
        assert!(matches!(throttle.turn(now), Turn::At(_)));
        let now = now + PAUSE.0;
        let mut probe = go(&mut throttle, now).unwrap();
        assert!(matches!(throttle.turn(now), Turn::Later));
        throttle.taken(&mut probe);
        let mut two = [(); 2].map(|()| go(&mut throttle, now).unwrap());
        assert!(matches!(throttle.turn(now), Turn::Later));
        // One that nobody knows anything of makes room, but no more than that.
        throttle.ended(&mut two[0]);
        assert!(go(&mut throttle, now).is_some());
        assert!(matches!(throttle.turn(now), Turn::Later));
        throttle.throttled(&mut two[1], Some(Duration::from_secs(9)), now);
        assert_eq!(
            throttle.closed_until(now),
            Some(now + Duration::from_secs(9))
        );
    }

    #[test]
    fn what_takes_long_but_is_not_refused_lets_others_go() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        let mut first = go(&mut throttle, now).unwrap();
        throttle.throttled(&mut first, None, now);
        let now = now + PAUSE.0;
        let mut slow = go(&mut throttle, now).unwrap();
        throttle.quiet(&mut slow);
        let two = [(); 2].map(|()| go(&mut throttle, now));
        assert!(two.iter().all(Option::is_some));
        throttle.taken(&mut slow);
        assert!(matches!(throttle.turn(now), Turn::Later), "counted once");
        throttle.throttled(&mut slow, None, now);
        assert!(throttle.closed_until(now).is_some());
    }

    proptest! {
        #[test]
        fn few_go_in_vain_and_all_go_soon_after_the_hub_stops_throttling(
            per_second in 0.0..200.0_f64,
            burst in 1.0..50.0_f64,
            lifted in 0..60_000_u64,
            round_trip in 1..500_u64,
            count in 1..256_usize,
        ) {
            let start = Instant::now();
            let round_trip = Duration::from_millis(round_trip);
            let lifted = start + Duration::from_millis(lifted);
            let mut hub = Hub { per_second, burst, left: 0.0, at: start, lifted };
            let mut throttle = Throttle::default();
            let mut first = go(&mut throttle, start).unwrap();
            throttle.throttled(&mut first, None, start);
            let (mut left, mut done, mut vain) = (count, 0, 0);
            let mut now = start;
            // All take equally long, so that they are answered in their order.
            let mut under_way: VecDeque<(Instant, bool, Pass)> = VecDeque::new();
            let mut open_again = None;
            while done < count {
                if now >= lifted && open_again.is_none() {
                    open_again = Some(throttle.closed_until(now).unwrap_or(now));
                }
                while left > 0 && let Some(pass) = go(&mut throttle, now) {
                    left -= 1;
                    under_way.push_back((now + round_trip, hub.takes(now), pass));
                }
                let next = under_way.front().map(|(at, ..)| *at);
                let wakes = throttle.closed_until(now).filter(|_| left > 0);
                now = next.into_iter().chain(wakes).min().unwrap();
                while under_way.front().is_some_and(|(at, ..)| *at <= now) {
                    let (_, taken, mut pass) = under_way.pop_front().unwrap();
                    if taken {
                        done += 1;
                        throttle.taken(&mut pass);
                    } else {
                        (left, vain) = (left + 1, vain + 1);
                        throttle.throttled(&mut pass, None, now);
                    }
                }
            }
            // One for each pause, and no more than have been taken.
            let rounds = usize::try_from(throttle.round).unwrap();
            prop_assert!(vain <= done + rounds, "{vain} in vain, {done} taken, {rounds} rounds");
            if let Some(open_again) = open_again {
                // What was under way just then may have been refused, which makes for one pause more.
                let latest = open_again + PAUSE.1 + 12 * round_trip;
                prop_assert!(now <= latest, "{:?} too late", now - latest);
            }
        }
    }
}
