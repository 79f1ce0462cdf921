//! How many events the hub may send ahead of what is taken: many small ones, few large ones. Pure.
//!
//! A hub counts what it sends in messages, not in bytes, and a message may have 256 KiB. A link begins
//! cautiously and is opened again when it has shown how large its events are.

use std::time::Duration;

use iothub::Event;
use tokio::time::Instant;

/// What an event is taken to have while nothing is known, in bytes: half of the most. A pod that starts
/// opens all its links at once.
const UNKNOWN: u64 = 128 << 10;
/// Most events under way: beyond it a reader gets no faster on any line.
const MOST: u32 = 1000;
/// Fewest: the largest messages still come while others are being taken.
const FEWEST: u32 = 4;
/// Most bytes under way on one link.
const BYTES: u64 = 1 << 20;
/// What an event takes beside its body, about: annotations, properties and their maps.
const BESIDE: u64 = 1024;
/// Events that show how large they are.
const SHOWN: u64 = 32;
/// A link is not opened again for a better number more often than this.
const STEADY: Duration = Duration::from_secs(30);

/// The size of a partition's events, and what that allows.
#[derive(Debug)]
pub struct Ahead {
    /// What the link was opened with.
    events: u32,
    opened: Instant,
    /// That was a guess.
    guessed: bool,
    /// Mean size of the last events, in bytes, and how many have shown it.
    mean: u64,
    shown: u64,
}

impl Ahead {
    /// Nothing is known but how large the events of another partition are, if that.
    pub fn new(now: Instant, others: Option<u64>) -> Self {
        Self {
            events: FEWEST,
            opened: now,
            guessed: true,
            mean: others.unwrap_or_default(),
            shown: others.map_or(0, |_| SHOWN),
        }
    }

    /// The size of an event on its way, in bytes, once enough of them have shown it.
    pub fn event(&self) -> Option<u64> {
        (self.shown >= SHOWN).then_some(self.mean)
    }

    /// A link is opened: with how many events ahead, of at most `room` bytes.
    pub fn open(&mut self, now: Instant, room: u64) -> u32 {
        self.opened = now;
        self.guessed = self.event().is_none();
        self.events = self.wanted(room);
        self.events
    }

    /// These were received.
    pub fn received(&mut self, events: &[Event]) {
        for event in events {
            let size = event.body.len() as u64 + BESIDE;
            self.shown += 1;
            // The plain mean at first, then one in which the last events count most.
            let weight = self.shown.min(SHOWN);
            self.mean = (self.mean * (weight - 1) + size) / weight;
        }
    }

    fn wanted(&self, room: u64) -> u32 {
        let event = self.event().unwrap_or(UNKNOWN);
        let fit = room.min(BYTES) / event.max(1);
        u32::try_from(fit).unwrap_or(MOST).clamp(FEWEST, MOST)
    }

    /// The link should be opened again: with far less if its events have become large, or far more if
    /// they are small.
    #[must_use]
    pub fn is_off(&self, now: Instant, room: u64) -> bool {
        let wanted = self.wanted(room);
        let first = self.guessed && self.event().is_some();
        let too_much = wanted * 2 < self.events;
        let too_little = wanted > self.events * 2 && (first || now - self.opened >= STEADY);
        too_much || too_little
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use iothub::{MessageSource, Offset};

    use super::*;

    fn events(count: usize, size: usize) -> Vec<Event> {
        let event = Event {
            partition_offset: Offset::new("0"),
            sequence: 0,
            enqueued_ms: 0,
            device: None,
            module: None,
            source: MessageSource::Telemetry,
            body: vec![b' '; size].into(),
            content_type: None,
            content_encoding: None,
            message_id: None,
            properties: BTreeMap::new(),
        };
        vec![event; count]
    }

    #[test]
    fn small_events_come_by_the_hundred_and_large_ones_one_by_one() {
        let begun = Instant::now();
        let mut ahead = Ahead::new(begun, None);
        assert_eq!(ahead.open(begun, BYTES), 8);
        ahead.received(&events(8, 250));
        assert!(!ahead.is_off(begun, BYTES), "too few to tell");
        ahead.received(&events(100, 250));
        assert!(ahead.is_off(begun, BYTES), "the first number was a guess");
        let small = ahead.open(begun, BYTES);
        assert!(small > 700, "{small}");
        assert!(!ahead.is_off(begun, BYTES));

        ahead.received(&events(200, 256 << 10));
        assert!(ahead.is_off(begun, BYTES), "at once: memory is at stake");
        assert_eq!(ahead.open(begun, BYTES), FEWEST);
        ahead.received(&events(400, 250));
        assert!(!ahead.is_off(begun, BYTES), "speed can wait");
        assert!(ahead.is_off(begun + STEADY, BYTES));

        assert!(ahead.open(begun, BYTES / 8) < 150, "many links share");

        let mut other = Ahead::new(begun, ahead.event());
        assert!(other.open(begun, BYTES) > 700, "as the others");
    }
}
