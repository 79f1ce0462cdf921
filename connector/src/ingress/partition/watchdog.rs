//! Proves that a partition is alive: a link can be dead without an error. Pure.
//!
//! What is heard proves a link alive, and so does a survey that tells of nothing beyond what was
//! received. A survey that tells of more, of which nothing comes, proves it dead.

use std::time::Duration;

use tokio::time::Instant;

use super::super::survey::Seen;

/// Silence that needs a proof. A survey is made every 15 s, so an idle partition is proven alive every
/// 30 s at the latest.
const SILENCE: Duration = Duration::from_secs(20);
/// An event that the hub has told of is on its way for no longer than this.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
/// Silence without any proof of life, because no survey succeeds: the link is opened again, which shows
/// whether the hub can be reached.
const UNPROVEN: Duration = Duration::from_secs(50);

/// Watches one link.
#[derive(Debug)]
pub struct Watchdog {
    /// When the link was opened, an event has come, or a survey has shown that none could.
    alive: Instant,
}

impl Watchdog {
    /// A link that was opened just now.
    pub fn new(now: Instant) -> Self {
        Self { alive: now }
    }

    /// Something has come, or nobody has listened so that silence proves nothing.
    pub fn heard(&mut self, now: Instant) {
        self.alive = now;
    }

    /// Why the link must be dead, if it must. `received` is the sequence number of the newest event that
    /// has come, `seen` what the newest survey tells of the partition.
    pub fn dead(
        &mut self,
        now: Instant,
        received: Option<i64>,
        seen: Option<&Seen>,
    ) -> Option<&'static str> {
        if let Some(seen) = seen
            && seen.asked > self.alive
        {
            let all = seen.properties.empty
                || received.is_some_and(|received| seen.properties.last_sequence <= received);
            if all {
                self.alive = seen.asked;
            } else if now - self.alive >= SILENCE && now - seen.answered >= ON_ITS_WAY {
                return Some("a partition that has events but delivers none");
            }
        }
        (now - self.alive >= UNPROVEN).then_some("a sign of life from a partition")
    }
}

#[cfg(test)]
mod tests {
    use iothub::{Offset, PartitionProperties};

    use super::*;

    fn seen(asked: Instant, last_sequence: i64) -> Seen {
        Seen {
            asked,
            answered: asked,
            properties: PartitionProperties {
                beginning_sequence: 0,
                last_sequence,
                last_offset: Offset::new("x"),
                last_enqueued_ms: 0,
                empty: last_sequence < 0,
            },
        }
    }

    fn after(begun: Instant, seconds: u64) -> Instant {
        begun + Duration::from_secs(seconds)
    }

    #[test]
    fn an_idle_partition_is_alive_as_long_as_surveys_say_so() {
        let begun = Instant::now();
        let mut dog = Watchdog::new(begun);
        for round in 1..10 {
            let now = after(begun, 15 * round);
            assert_eq!(dog.dead(now, Some(7), Some(&seen(now, 7))), None);
        }
        let empty = seen(after(begun, 200), -1);
        assert_eq!(dog.dead(after(begun, 201), None, Some(&empty)), None);
    }

    #[test]
    fn a_link_that_does_not_deliver_what_is_there_is_dead() {
        let begun = Instant::now();
        let mut dog = Watchdog::new(begun);
        let news = seen(after(begun, 25), 8);
        let dead =
            |dog: &mut Watchdog, at| dog.dead(after(begun, at), Some(7), Some(&news)).is_some();
        assert!(!dead(&mut dog, 25), "it may be on its way");
        assert!(dead(&mut dog, 30));
        dog.heard(after(begun, 26));
        assert!(!dead(&mut dog, 30), "it has come");
    }

    #[test]
    fn news_of_before_the_last_event_proves_nothing() {
        let begun = Instant::now();
        let mut dog = Watchdog::new(after(begun, 10));
        let old = seen(begun, 8);
        assert_eq!(dog.dead(after(begun, 40), Some(7), Some(&old)), None);
    }

    #[test]
    fn silence_without_any_survey_is_not_trusted_for_ever() {
        let begun = Instant::now();
        let mut dog = Watchdog::new(begun);
        assert_eq!(dog.dead(after(begun, 49), Some(7), None), None);
        assert!(dog.dead(after(begun, 50), Some(7), None).is_some());
    }
}
