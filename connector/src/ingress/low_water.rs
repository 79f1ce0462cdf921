//! The low-water mark: the newest event of a partition before which everything is settled. The only
//! thing that is ever checkpointed.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

/// A place in a partition to resume after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The hub's offset, which stays a text.
    pub offset: Arc<str>,
    /// Sequence number of the event at the offset.
    pub sequence: i64,
    /// When the hub took that event, in milliseconds since 1970.
    pub enqueued_ms: i64,
}

/// Events that are read and not yet behind the mark, oldest first.
#[derive(Debug, Default)]
pub struct LowWater {
    open: VecDeque<Entry>,
    mark: Option<Mark>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    mark: Mark,
    bytes: usize,
    read: Instant,
    settled: bool,
}

/// How far reading may run ahead of the mark: bounds memory, and what is read again after a crash.
#[derive(Debug, Clone, Copy)]
pub struct ReadAhead {
    /// Events past the mark. 10,000 is a second or two of a full partition.
    pub events: usize,
    /// Bytes of messages past the mark, as they lie in memory.
    pub bytes: usize,
    /// Age of the oldest event past the mark.
    pub age: Duration,
}

impl Default for ReadAhead {
    fn default() -> Self {
        Self {
            events: 10_000,
            bytes: 16 << 20,
            age: Duration::from_secs(10),
        }
    }
}

impl LowWater {
    /// Begins after `mark`, or nowhere.
    #[must_use]
    pub fn after(mark: Option<Mark>) -> Self {
        Self {
            mark,
            ..Self::default()
        }
    }

    /// An event has been read. Events are admitted in the order of their sequence numbers.
    pub fn admit(&mut self, mark: Mark, bytes: usize, now: Instant) {
        debug_assert!(
            self.open
                .back()
                .is_none_or(|last| last.mark.sequence < mark.sequence)
        );
        self.bytes += bytes;
        self.open.push_back(Entry {
            mark,
            bytes,
            read: now,
            settled: false,
        });
    }

    /// The event with this sequence number is written, or passed and reported.
    pub fn settle(&mut self, sequence: i64) {
        if let Ok(at) = self
            .open
            .binary_search_by_key(&sequence, |entry| entry.mark.sequence)
        {
            self.open[at].settled = true;
        }
        while self.open.front().is_some_and(|entry| entry.settled) {
            if let Some(entry) = self.open.pop_front() {
                self.bytes -= entry.bytes;
                self.mark = Some(entry.mark);
            }
        }
    }

    /// Where to resume after a crash; `None` if nothing has ever been settled.
    #[must_use]
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// Events past the mark.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Bytes of messages past the mark.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reading should pause.
    #[must_use]
    pub fn is_full(&self, limit: ReadAhead, now: Instant) -> bool {
        self.open.len() >= limit.events
            || self.bytes >= limit.bytes
            || self
                .open
                .front()
                .is_some_and(|entry| now - entry.read >= limit.age)
    }

    /// Forgets what is not settled: it will be read again after the mark.
    pub fn drop_unsettled(&mut self) {
        self.open.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(sequence: i64) -> Mark {
        Mark {
            offset: sequence.to_string().into(),
            sequence,
            enqueued_ms: sequence,
        }
    }

    proptest! {
        /// Whatever the order of settling, nothing unsettled is ever behind the mark, and the mark is
        /// as far as it can be.
        #[test]
        fn the_mark_is_just_below_the_first_unsettled(
            order in Just((0..50_i64).collect::<Vec<_>>()).prop_shuffle(),
            settled in 0..50_usize,
        ) {
            let mut low = LowWater::default();
            for sequence in 0..50 {
                low.admit(mark(sequence), 10, Instant::now());
            }
            for sequence in &order[..settled] {
                low.settle(*sequence);
            }
            let first_open = (0..50).find(|s| !order[..settled].contains(s));
            let expected = first_open.unwrap_or(50) - 1;
            prop_assert_eq!(low.mark().map_or(-1, |mark| mark.sequence), expected);
            prop_assert_eq!(low.open.len(), usize::try_from(49 - expected).unwrap());
            prop_assert_eq!(low.bytes, low.open.len() * 10);
        }
    }

    #[test]
    fn reading_pauses_at_each_bound() {
        let limit = ReadAhead {
            events: 2,
            bytes: 100,
            age: Duration::from_secs(10),
        };
        let now = Instant::now();
        let mut low = LowWater::default();
        assert!(!low.is_full(limit, now));
        low.admit(mark(1), 99, now);
        assert!(!low.is_full(limit, now));
        assert!(low.is_full(limit, now + limit.age), "too old");
        low.admit(mark(2), 0, now);
        assert!(low.is_full(limit, now), "too many");
        low.settle(1);
        assert!(!low.is_full(limit, now));
        low.settle(2);
        low.admit(mark(3), 100, now);
        assert!(low.is_full(limit, now), "too large");
        low.drop_unsettled();
        assert!(low.open.is_empty() && !low.is_full(limit, now));
        assert_eq!(low.mark(), Some(&mark(2)));
    }
}
