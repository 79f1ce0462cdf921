//! A platform that takes its time, keeps every value in a log, and knows who sent it and when.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alwayson::{BaseType, Field, InfoTable, Request, Value, json::table_to_json};
use async_trait::async_trait;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};

use super::{
    hub::{Hub, device},
    member::Access,
};
use crate::platform::{Asked, Destination, Kind, Unwritten};

/// How long a node's answer is waited for.
const REQUEST: Duration = Duration::from_secs(4);

/// What was written.
pub struct Platform {
    log: Mutex<Log>,
    random: Mutex<StdRng>,
    partitions: usize,
    /// It answers within milliseconds, always.
    prompt: AtomicBool,
}

#[derive(Default)]
struct Log {
    /// Thing → sequence numbers in the order of their execution.
    executed: BTreeMap<String, Vec<i64>>,
    /// Partition → sequence numbers.
    written: HashMap<usize, BTreeSet<i64>>,
    sent: Vec<Sent>,
    /// Partition → when something of it was executed last, and the longest time without.
    pauses: HashMap<usize, (Instant, Duration)>,
}

struct Sent {
    partition: usize,
    epoch: i64,
    at: Instant,
    what: String,
    /// The member cannot ask whose the partition is.
    blind: bool,
}

impl Platform {
    /// Has no values.
    pub fn new(seed: u64, partitions: usize) -> Self {
        Self {
            log: Mutex::default(),
            random: Mutex::new(StdRng::seed_from_u64(!seed)),
            partitions,
            prompt: AtomicBool::new(false),
        }
    }

    /// From now on it answers within milliseconds: what takes longer is the members' own doing.
    pub fn be_prompt(&self) {
        self.prompt.store(true, Ordering::Relaxed);
    }

    /// The first event up to `sequence` that is not written, if there is one.
    pub fn unwritten(&self, partition: &str, sequence: i64) -> Option<i64> {
        let log = self.log.lock().unwrap();
        let written = log.written.get(&partition.parse().unwrap());
        (0..=sequence).find(|one| !written.is_some_and(|written| written.contains(one)))
    }

    /// What has not arrived.
    pub fn missing(&self, hub: &Hub) -> Option<String> {
        let sent = hub.sent();
        (0..self.partitions).find_map(|partition| {
            let first = self.unwritten(&partition.to_string(), sent[partition] - 1)?;
            let device = device(partition, first);
            Some(format!(
                "event {first} of {} in partition {partition}, of {device}",
                sent[partition]
            ))
        })
    }

    /// The first arrival that came after a later one.
    pub fn disorder(&self) -> Option<String> {
        let log = self.log.lock().unwrap();
        log.executed.iter().find_map(|(thing, all)| {
            let mut newest = -1;
            let mut seen = BTreeSet::new();
            for sequence in all {
                if !seen.insert(*sequence) {
                    continue;
                }
                if *sequence < newest {
                    return Some(format!("{thing}: {sequence} after {newest}"));
                }
                newest = *sequence;
            }
            None
        })
    }

    /// Values that were written more than once.
    pub fn twice(&self) -> usize {
        let log = self.log.lock().unwrap();
        let again = |all: &Vec<i64>| all.len() - all.iter().collect::<BTreeSet<_>>().len();
        log.executed.values().map(again).sum()
    }

    /// A write of an earlier epoch that was sent more than `grace` after the first of a later one, by a
    /// member that could have known. (One that is cut off from the API server and had to open its link
    /// again, just while that of the new owner is broken, writes what the other has written already.)
    pub fn unfenced(&self, grace: Duration) -> Option<String> {
        let log = self.log.lock().unwrap();
        let mut first: BTreeMap<(usize, i64), Instant> = BTreeMap::new();
        for sent in &log.sent {
            first.entry((sent.partition, sent.epoch)).or_insert(sent.at);
        }
        log.sent.iter().filter(|sent| !sent.blind).find_map(|sent| {
            let later = (sent.partition, sent.epoch + 1)..=(sent.partition, i64::MAX);
            let (of, begun) = first.range(later).min_by_key(|(_, at)| **at)?;
            (sent.at > *begun + grace).then(|| {
                format!(
                    "{} of epoch {} was sent {:?} after the first of epoch {}",
                    sent.what,
                    sent.epoch,
                    sent.at - *begun,
                    of.1
                )
            })
        })
    }

    /// The longest time in which nothing of some partition was written.
    pub fn longest_pause(&self) -> Duration {
        let log = self.log.lock().unwrap();
        let longest = log.pauses.values().map(|(_, longest)| *longest).max();
        longest.unwrap_or_default()
    }

    fn execute(&self, thing: &str, partition: usize, sequences: &[i64]) {
        let mut log = self.log.lock().unwrap();
        let executed = log.executed.entry(thing.to_owned()).or_default();
        executed.extend(sequences);
        log.written.entry(partition).or_default().extend(sequences);
        let now = Instant::now();
        let (last, longest) = log.pauses.entry(partition).or_insert((now, Duration::ZERO));
        *longest = (*longest).max(now - *last);
        *last = now;
    }

    fn draw(&self, from: std::ops::Range<u64>) -> u64 {
        self.random.lock().unwrap().random_range(from)
    }
}

/// The platform as a member sees it.
pub struct Way {
    /// The platform.
    pub platform: Arc<Platform>,
    /// The hub, which knows the member's epochs.
    pub hub: Arc<Hub>,
    /// Whose way to it this is.
    pub access: Arc<Access>,
}

#[async_trait]
impl Destination for Way {
    async fn ask(&self, kind: Kind, request: &Request) -> Asked {
        let answered = |outcome| Asked {
            outcome,
            unanswered: Vec::new(),
        };
        if kind == Kind::Read {
            if self.access.is_cut_from_platform() {
                sleep(REQUEST).await;
                return answered(Err(Unwritten::Unanswered));
            }
            return answered(Ok(definitions(&request.target)));
        }
        let thing = request.entity.clone();
        let (partition, _) = thing.split_once('-').unwrap();
        let partition: usize = partition.parse().unwrap();
        let sequences = numbers(request);
        let member = &self.access.member;
        self.platform.log.lock().unwrap().sent.push(Sent {
            partition,
            epoch: self.hub.epoch_of(member, partition),
            at: Instant::now(),
            what: format!("{member}: {thing} {sequences:?}"),
            blind: self.access.is_blind(),
        });
        // Mostly at once; now and then as late as a time-out allows, or with an answer that is lost.
        let ms = match self.platform.draw(0..50) {
            0 if !self.platform.prompt.load(Ordering::Relaxed) => self.platform.draw(0..3900),
            _ => self.platform.draw(1..40),
        };
        let cut = self.access.is_cut_from_platform();
        let arrives = !cut || self.platform.draw(0..2) == 0;
        let (platform, name) = (self.platform.clone(), thing.clone());
        // It goes on whatever becomes of whoever has asked.
        let executing = tokio::spawn(async move {
            if arrives {
                sleep(Duration::from_millis(ms)).await;
                platform.execute(&name, partition, &sequences);
            }
        });
        if cut {
            sleep(REQUEST).await;
            return Asked {
                outcome: Err(Unwritten::Unanswered),
                unanswered: vec!["node".into()],
            };
        }
        let _ = executing.await;
        answered(Ok(InfoTable::default()))
    }

    async fn wait_writable(&self) {}

    fn is_past(&self, _: &Arc<str>, _: Instant) -> bool {
        true
    }
}

fn definitions(service: &str) -> InfoTable {
    let text = |name: &str| Field::new(name, BaseType::String);
    let mut table = match service {
        "GetPropertyDefinitions" => InfoTable::new([text("name"), text("baseType")]),
        _ => InfoTable::new([text("edgeName")]),
    };
    let row = [Value::string("n"), Value::string("INTEGER")];
    let cells = if service == "GetPropertyDefinitions" {
        2
    } else {
        1
    };
    table.push(&row[..cells]).unwrap();
    table
}

/// The numbers that a request writes, in its order.
fn numbers(request: &Request) -> Vec<i64> {
    let params = request.params.clone().unwrap_or_default();
    let json = table_to_json(&params);
    let rows = json["rows"][0]["values"]["rows"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    rows.iter()
        .filter_map(|row| row["value"].as_i64())
        .collect()
}
