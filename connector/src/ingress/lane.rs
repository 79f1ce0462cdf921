//! Lanes: the queue of one Thing's writes. At most one request per Thing is in flight, which keeps a
//! device's values in order; what waits meanwhile goes into the next request together.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

use super::{decode::Message, delivery::Known, shadow::Shadow};

/// Messages merged into one request. With a handful of properties each this stays near the 500 rows
/// that a node writes in a few milliseconds.
const MAX_MESSAGES: usize = 100;
/// Bytes of messages, as they lie in memory, merged into one request: some 500 values.
const MAX_BYTES: usize = 64 << 10;

/// All lanes of a partition.
#[derive(Default)]
pub struct Lanes {
    lanes: HashMap<Arc<str>, Lane>,
    /// Things with something to write and nothing in flight, oldest first.
    ready: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Message>,
    in_flight: bool,
    known: Option<Known>,
    /// With the batch while one is in flight.
    shadow: Shadow,
}

/// What is written to one Thing with one request.
pub struct Batch {
    /// The Thing.
    pub thing: Arc<str>,
    /// Its messages in order; never empty.
    pub messages: Vec<Message>,
    /// What is known of the Thing.
    pub known: Option<Known>,
    /// What the hub has said of it.
    pub shadow: Shadow,
}

impl Lanes {
    /// Puts a message at the end of its Thing's lane.
    pub fn push(&mut self, message: Message) {
        let thing = message.thing.clone();
        let lane = self.lanes.entry(thing.clone()).or_default();
        lane.waiting.push_back(message);
        if !lane.in_flight && lane.waiting.len() == 1 {
            self.ready.push_back(thing);
        }
    }

    /// The next batch to write; its Thing gives none until [`Self::done`].
    pub fn take(&mut self) -> Option<Batch> {
        let thing = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&thing)?;
        lane.in_flight = true;
        let mut bytes = 0;
        let mut messages = Vec::new();
        while let Some(next) = lane.waiting.front() {
            bytes += next.bytes;
            if !messages.is_empty() && (messages.len() >= MAX_MESSAGES || bytes > MAX_BYTES) {
                break;
            }
            messages.extend(lane.waiting.pop_front());
        }
        Some(Batch {
            thing,
            messages,
            known: lane.known.clone(),
            shadow: std::mem::take(&mut lane.shadow),
        })
    }

    /// A batch is settled; remembers what was learned of its Thing.
    pub fn done(&mut self, thing: &Arc<str>, known: Option<Known>, shadow: Shadow) {
        if let Some(lane) = self.lanes.get_mut(thing) {
            lane.in_flight = false;
            lane.known = known;
            lane.shadow = shadow;
            if !lane.waiting.is_empty() {
                self.ready.push_back(thing.clone());
            }
        }
    }

    /// Forgets Things that have nothing to write and of which nothing fresh is known.
    pub fn prune(&mut self, now: Instant) {
        self.lanes.retain(|_, lane| {
            let fresh = lane
                .known
                .as_ref()
                .is_some_and(|known| !known.is_stale(now));
            lane.in_flight || !lane.waiting.is_empty() || fresh
        });
    }

    /// Drops everything that waits. What is in flight is dropped by its owner.
    pub fn clear(&mut self) {
        self.lanes.clear();
        self.ready.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{super::decode::Content, *};

    fn message(thing: &str, sequence: i64, bytes: usize) -> Message {
        Message {
            thing: thing.into(),
            content: Content::Telemetry(super::super::decode::Telemetry::default()),
            sequence,
            bytes,
        }
    }

    fn sequences(batch: &Batch) -> Vec<i64> {
        batch
            .messages
            .iter()
            .map(|message| message.sequence)
            .collect()
    }

    #[test]
    fn a_thing_has_one_batch_in_flight_and_keeps_its_order() {
        let mut lanes = Lanes::default();
        for (thing, sequence) in [("a", 1), ("b", 2), ("a", 3)] {
            lanes.push(message(thing, sequence, 10));
        }
        let a = lanes.take().unwrap();
        let b = lanes.take().unwrap();
        assert_eq!((sequences(&a), sequences(&b)), (vec![1, 3], vec![2]));
        lanes.push(message("a", 4, 10));
        lanes.push(message("a", 5, 10));
        assert!(
            lanes.take().is_none(),
            "both Things have a request in flight"
        );
        lanes.done(&a.thing, None, Shadow::default());
        assert_eq!(sequences(&lanes.take().unwrap()), [4, 5]);
    }

    #[test]
    fn a_batch_is_bounded_but_never_empty() {
        let mut lanes = Lanes::default();
        lanes.push(message("a", 1, MAX_BYTES * 2));
        lanes.push(message("a", 2, 1));
        let batch = lanes.take().unwrap();
        assert_eq!(
            sequences(&batch),
            [1],
            "a message too large to merge goes alone"
        );
        lanes.done(&batch.thing, None, Shadow::default());
        for sequence in 3..200 {
            lanes.push(message("a", sequence, 1));
        }
        assert_eq!(lanes.take().unwrap().messages.len(), MAX_MESSAGES);
    }

    #[test]
    fn idle_lanes_are_forgotten() {
        let mut lanes = Lanes::default();
        lanes.push(message("a", 1, 1));
        lanes.prune(Instant::now());
        let batch = lanes.take().unwrap();
        lanes.prune(Instant::now());
        assert_eq!(lanes.lanes.len(), 1, "in flight");
        lanes.done(&batch.thing, None, Shadow::default());
        lanes.prune(Instant::now());
        assert!(lanes.lanes.is_empty());
    }
}
