//! Lanes: the queue of one Thing's writes. At most one request per Thing is in flight, which keeps a
//! device's values in order; what waits meanwhile goes into the next request together.
//!
//! A request that was never answered may still be carried out, after newer ones. The lane is then in
//! doubt ([`Doubt`]) and writes the newest values again once that is past.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::{
    decode::Message,
    delivery::{Delivered, Known},
    map::PropertyValue,
    shadow::Shadow,
};

/// Messages merged into one request. With a handful of properties each this stays near the 500 rows
/// that a node writes in a few milliseconds.
const MAX_MESSAGES: usize = 100;
/// Bytes of messages, as they lie in memory, merged into one request: some 500 values.
const MAX_BYTES: usize = 64 << 10;

/// Before the newest values are written again: a node that hangs for a moment has done by then what it
/// was asked before.
const DOUBT: Duration = Duration::from_secs(10);
/// A node that has given no sign for so long carries nothing out any more.
const GONE: Duration = Duration::from_secs(300);

/// All lanes of a partition.
#[derive(Default)]
pub struct Lanes {
    lanes: FxHashMap<Arc<str>, Lane>,
    /// Things with something to write and nothing in flight, oldest first.
    ready: VecDeque<Arc<str>>,
    /// Things whose lanes are in doubt.
    doubtful: HashSet<Arc<str>>,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Message>,
    in_flight: bool,
    known: Option<Known>,
    /// With the batch while one is in flight.
    shadow: Shadow,
    /// Boxed, as what is rare.
    doubt: Option<Box<Doubt>>,
}

/// Requests to these nodes were never answered, and may yet be carried out.
struct Doubt {
    nodes: Vec<Arc<str>>,
    since: Instant,
    /// The newest value of each property that was written since.
    newest: HashMap<Arc<str>, PropertyValue>,
    due: bool,
}

/// What is written to one Thing with one request.
pub struct Batch {
    /// The Thing.
    pub thing: Arc<str>,
    /// Its messages in order; empty only if there is something to write again.
    pub messages: Vec<Message>,
    /// Values to write again, before those of the messages.
    pub again: Vec<PropertyValue>,
    /// The newest values are wanted back: the lane is in doubt.
    pub in_doubt: bool,
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
        let fit = lane.waiting.iter().take(MAX_MESSAGES).take_while(|next| {
            bytes += next.bytes;
            bytes <= MAX_BYTES
        });
        // One that is too large goes alone.
        let fit = fit.count().max(1).min(lane.waiting.len());
        let messages = if fit == lane.waiting.len() {
            // An empty lane keeps no room: most of a hundred thousand are empty.
            std::mem::take(&mut lane.waiting).into()
        } else {
            lane.waiting.drain(..fit).collect()
        };
        let due = lane.doubt.take_if(|doubt| doubt.due);
        if due.is_some() {
            self.doubtful.remove(&thing);
        }
        Some(Batch {
            thing,
            messages,
            again: due.map_or_else(Vec::new, |doubt| doubt.newest.into_values().collect()),
            in_doubt: lane.doubt.is_some(),
            known: lane.known.clone(),
            shadow: std::mem::take(&mut lane.shadow),
        })
    }

    /// A batch is settled; remembers what was learned of its Thing.
    pub fn done(&mut self, delivered: Delivered, now: Instant) {
        let Delivered {
            thing,
            sequences: _,
            passed: _,
            known,
            shadow,
            unanswered,
            newest,
        } = delivered;
        let Some(lane) = self.lanes.get_mut(&thing) else {
            return;
        };
        lane.in_flight = false;
        lane.known = known;
        lane.shadow = shadow;
        if !unanswered.is_empty() {
            let doubt = lane.doubt.get_or_insert_with(|| {
                Box::new(Doubt {
                    nodes: Vec::new(),
                    since: now,
                    newest: HashMap::new(),
                    due: false,
                })
            });
            self.doubtful.insert(thing.clone());
            doubt.since = now;
            doubt.due = false;
            doubt.nodes.extend(unanswered);
            doubt.nodes.sort();
            doubt.nodes.dedup();
        }
        if let Some(doubt) = &mut lane.doubt {
            let newest = newest.into_iter();
            doubt
                .newest
                .extend(newest.map(|value| (value.name.clone(), value)));
        }
        if !lane.waiting.is_empty() || lane.doubt.as_ref().is_some_and(|doubt| doubt.due) {
            self.ready.push_back(thing);
        }
    }

    /// Looks for lanes whose doubt is past: every node in question `is_past` what it was asked before the
    /// time given.
    pub fn tick(&mut self, now: Instant, is_past: impl Fn(&Arc<str>, Instant) -> bool) {
        self.look(|doubt| {
            let waited = now - doubt.since;
            let past = |node| is_past(node, doubt.since);
            waited >= GONE || (waited >= DOUBT && doubt.nodes.iter().all(past))
        });
    }

    /// There is no time to wait for anything: what is in doubt is written again now.
    pub fn doubts_are_due(&mut self) {
        self.look(|_| true);
    }

    fn look(&mut self, is_due: impl Fn(&Doubt) -> bool) {
        for thing in &self.doubtful {
            let Some(lane) = self.lanes.get_mut(thing) else {
                continue;
            };
            let Some(doubt) = lane.doubt.as_mut().filter(|doubt| !doubt.due) else {
                continue;
            };
            doubt.due = is_due(doubt);
            if doubt.due && !lane.in_flight && lane.waiting.is_empty() {
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
            lane.in_flight || !lane.waiting.is_empty() || lane.doubt.is_some() || fresh
        });
    }

    /// Drops everything that waits. What is in flight is dropped by its owner.
    pub fn clear(&mut self) {
        self.lanes.clear();
        self.ready.clear();
        self.doubtful.clear();
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
            event: None,
        }
    }

    fn delivered(thing: &Arc<str>) -> Delivered {
        Delivered {
            thing: thing.clone(),
            sequences: Vec::new(),
            passed: Vec::new(),
            known: None,
            shadow: Shadow::default(),
            unanswered: Vec::new(),
            newest: Vec::new(),
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
        lanes.done(delivered(&a.thing), Instant::now());
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
        lanes.done(delivered(&batch.thing), Instant::now());
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
        lanes.done(delivered(&batch.thing), Instant::now());
        lanes.prune(Instant::now());
        assert!(lanes.lanes.is_empty());
    }

    #[test]
    fn after_an_unanswered_request_the_newest_values_are_written_again() {
        let value = |name: &str, number| PropertyValue {
            name: name.into(),
            value: alwayson::Value::Integer(number),
            time_ms: i64::from(number),
            quality: crate::ingress::quality::Quality::Good,
        };
        let begun = Instant::now();
        let node: Arc<str> = "node".into();
        let mut lanes = Lanes::default();
        lanes.push(message("a", 1, 1));
        let batch = lanes.take().unwrap();
        assert!(!batch.in_doubt);
        lanes.done(
            Delivered {
                unanswered: vec![node.clone()],
                newest: vec![value("x", 1), value("y", 1)],
                ..delivered(&batch.thing)
            },
            begun,
        );
        lanes.push(message("a", 2, 1));
        let batch = lanes.take().unwrap();
        assert!(batch.in_doubt && batch.again.is_empty());
        let newer = Delivered {
            newest: vec![value("x", 2)],
            ..delivered(&batch.thing)
        };
        lanes.done(newer, begun);

        lanes.tick(begun + DOUBT / 2, |_, _| true);
        assert!(
            lanes.take().is_none(),
            "the request may still be carried out"
        );
        lanes.tick(begun + DOUBT, |_, _| false);
        assert!(lanes.take().is_none(), "the node has not moved since");
        lanes.prune(begun + DOUBT);
        lanes.tick(begun + DOUBT, |asked, since| {
            *asked == node && since == begun
        });
        let mut again = lanes.take().unwrap().again;
        again.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(again, [value("x", 2), value("y", 1)]);
        lanes.done(delivered(&batch.thing), begun);
        lanes.tick(begun + GONE, |_, _| true);
        assert!(lanes.take().is_none(), "once is enough");
    }
}
