//! Load: requests of the platform for many Things, made here and sent to whoever has bound them.
//!
//! An open loop: each request is due at a time of its own and is sent then, however long those before it
//! take, as the users of a platform do not wait for each other. Within its share of a second that time is chance: two
//! loads at even times would meet in each of their requests, or in none. What it took counts from when it was due, so
//! that a sender that is late makes the figures worse, not better. What is known of the real platform is that
//! it asks one binder at random and waits for 30 s; how many requests it has under way at most is not
//! published, and the bound here is far above what is measured.

mod report;

use std::{collections::BTreeMap, sync::Arc, thread, time::Duration};

use alwayson::{
    BaseType, InfoTable, Request,
    json::{Unfit, from_json},
};
use rand::Rng;
use serde::Deserialize;
use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{Shared, lock},
    draw,
    model::Thing,
};
pub use report::LoadView;
use report::Report;

/// Requests under way, unless it is said otherwise: 2,000 a second, for 8 s without any answer.
const AT_ONCE: u16 = 16_384;
/// More than one core sends in a second.
const FASTEST: u32 = 100_000;
/// Longest load, in seconds: somebody waits for it.
const LONGEST: u32 = 600;

/// What to ask for. Request *n* is for the Thing `{prefix}{n mod things}`, and *n* is what is written, or
/// what each input of a service is. The Things are alike, as they are generated: the first stands for all.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    /// What is done.
    pub kind: Kind,
    /// What the Things' names begin with.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// How many Things.
    pub things: u32,
    /// The property or service, by its local name.
    pub target: String,
    /// Requests a second.
    pub per_second: u32,
    /// For how many seconds.
    pub seconds: u32,
    /// How many may be under way. What is due beyond that is counted as not started.
    #[serde(default = "at_once")]
    pub at_once: u16,
}

/// What is done with a property or service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A property is written.
    Write,
    /// A property is read from the edge.
    Read,
    /// A service is called.
    Call,
}

fn prefix() -> String {
    "device-".into()
}

fn at_once() -> u16 {
    AT_ONCE
}

/// A load that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLoad {
    /// There are none.
    #[error("things: at least one")]
    Things,
    /// Too fast, or nothing at all.
    #[error("perSecond: 1 to {FASTEST}")]
    Rate,
    /// Too long, or no time at all.
    #[error("seconds: 1 to {LONGEST}")]
    Seconds,
    /// There is no such Thing, or nothing of that name that an edge has.
    #[error("[{0}] does not exist, or is not remote")]
    Unknown(String),
    /// A number is no value of the property or input.
    #[error("{0}")]
    Unfit(#[from] Unfit),
}

impl Load {
    /// Asks for all of it; ends once every request is answered or given up, or with its caller.
    ///
    /// # Errors
    /// [`BadLoad`]; then nothing has been asked for.
    pub async fn send(self, cluster: &Shared) -> Result<LoadView, BadLoad> {
        let question = self.check(cluster)?;
        let places = Arc::new(Semaphore::new(self.at_once.into()));
        let all = u32::from(self.at_once);
        let abandoned = CancellationToken::new();
        let _end = abandoned.clone().drop_guard();
        let sender = Sender {
            load: self,
            question,
            cluster: Arc::clone(cluster),
            places: Arc::clone(&places),
            report: Arc::new(Report::begin()),
            runtime: Handle::current(),
            abandoned,
        };
        let report = Arc::clone(&sender.report);
        // A thread of its own: the runtime's timers go by the millisecond, which is what an answer takes. It
        // ends in order or not at all.
        let _ = spawn_blocking(move || sender.run()).await;
        // All places are free again once nothing is under way. The semaphore is never closed.
        let _ = places.acquire_many(all).await;
        Ok(report.view())
    }

    fn check(&self, cluster: &Shared) -> Result<Question, BadLoad> {
        if self.things == 0 {
            return Err(BadLoad::Things);
        }
        if !(1..=FASTEST).contains(&self.per_second) {
            return Err(BadLoad::Rate);
        }
        if !(1..=LONGEST).contains(&self.seconds) {
            return Err(BadLoad::Seconds);
        }
        let first = self.thing(0);
        let found = lock(&cluster.model)
            .thing(&first)
            .map(|(_, thing)| Arc::clone(thing));
        let question = found
            .and_then(|thing| Question::of(self.kind, &self.target, &thing))
            .ok_or_else(|| BadLoad::Unknown(format!("{first}/{}", self.target)))?;
        question.request(&first, 0)?;
        Ok(question)
    }

    fn thing(&self, number: u64) -> String {
        format!("{}{}", self.prefix, number % u64::from(self.things))
    }

    /// How many requests there are.
    fn count(&self) -> u64 {
        u64::from(self.per_second) * u64::from(self.seconds)
    }

    /// When a request may be due first, from the beginning; the next may when its time is over. Each is reckoned by
    /// itself, so that no error adds up.
    fn earliest(&self, number: u64) -> Duration {
        let per_second = u64::from(self.per_second);
        // The rest of a second is below one, and nanoseconds of it fit.
        let rest = (number % per_second) * 1_000_000_000 / per_second;
        Duration::from_secs(number / per_second) + Duration::from_nanos(rest)
    }
}

/// What all requests of a load have in common, by the edge's names.
#[derive(Debug, PartialEq)]
enum Question {
    Write(String, BaseType),
    Read(String),
    Call(String, BTreeMap<String, BaseType>),
}

impl Question {
    /// `None` if the Thing has nothing of that name, or not at the edge.
    fn of(kind: Kind, target: &str, thing: &Thing) -> Option<Self> {
        if kind == Kind::Call {
            let service = thing.services.get(target)?;
            let name = match service.remote_name.as_str() {
                "" => target,
                name => name,
            };
            let inputs = service.inputs.iter();
            let inputs = inputs.map(|(name, of)| Some((name.clone(), of.parse().ok()?)));
            return Some(Self::Call(name.to_owned(), inputs.collect::<Option<_>>()?));
        }
        let property = thing.properties.get(target)?;
        let name = property.remote_name(target)?.to_owned();
        Some(match kind {
            Kind::Write => Self::Write(name, property.base_type),
            Kind::Read | Kind::Call => Self::Read(name),
        })
    }

    fn request(&self, thing: &str, number: u64) -> Result<Request, Unfit> {
        let json = number.into();
        Ok(match self {
            Self::Write(name, base_type) => {
                Request::write(thing, name, from_json(*base_type, &json)?)
            }
            Self::Read(name) => Request::read(thing, name),
            Self::Call(name, inputs) => {
                let inputs = inputs
                    .iter()
                    .map(|(name, of)| Ok((name.clone(), from_json(*of, &json)?)))
                    .collect::<Result<Vec<_>, Unfit>>()?;
                let params = (!inputs.is_empty()).then(|| InfoTable::one_row(inputs));
                Request::call(thing, name, params)
            }
        })
    }
}

/// Sends each request when it is due.
struct Sender {
    load: Load,
    question: Question,
    cluster: Shared,
    places: Arc<Semaphore>,
    report: Arc<Report>,
    runtime: Handle,
    abandoned: CancellationToken,
}

impl Sender {
    fn run(self) {
        let begun = Instant::now();
        let mut chance = rand::rng();
        for number in 0..self.load.count() {
            let span = self.load.earliest(number)..self.load.earliest(number + 1);
            let due = begun + chance.random_range(span);
            #[expect(clippy::disallowed_methods, reason = "no thread of the runtime")]
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.abandoned.is_cancelled() {
                return;
            }
            self.start(number, due);
        }
    }

    fn start(&self, number: u64, due: Instant) {
        let thing = self.load.thing(number);
        let place = Arc::clone(&self.places).try_acquire_owned();
        // The first was checked, and the others differ by a number.
        let (Ok(place), Ok(request)) = (place, self.question.request(&thing, number)) else {
            return self.report.not_started();
        };
        let kind = match self.load.kind {
            Kind::Write => "write",
            Kind::Read => "read",
            Kind::Call => "call",
        };
        let (cluster, report) = (Arc::clone(&self.cluster), Arc::clone(&self.report));
        self.runtime.spawn(async move {
            report.started(due.elapsed());
            let answer = draw::ask(&cluster, kind, &thing, request).await;
            report.ended(&thing, &answer, due.elapsed());
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Cluster, ClusterSettings};

    fn load(kind: &str, target: &str) -> Load {
        serde_json::from_value(json!({
            "kind": kind, "prefix": "d-", "things": 2, "target": target, "perSecond": 3000, "seconds": 1
        }))
        .unwrap()
    }

    fn cluster() -> Shared {
        let cluster = Cluster::new(1, ClusterSettings::default());
        let thing = json!({
            "gatewayThing": "Hub",
            "properties": {
                "setpoint": {"baseType": "INTEGER", "remote": {"name": "sp"}},
                "note": {"baseType": "STRING", "remote": {}},
                "own": {"baseType": "NUMBER"}
            },
            "services": {"run": {"inputs": {"seconds": "NUMBER"}}}
        });
        cluster.generate("d-", 2, vec![serde_json::from_value(thing).unwrap()]);
        Arc::new(cluster)
    }

    #[test]
    fn requests_are_spread_evenly_and_errors_do_not_add_up() {
        let load = load("write", "setpoint");
        let earliest = |number| load.earliest(number).as_nanos();
        let first = [0, 1, 2].map(earliest);
        assert_eq!(first, [0, 333_333, 666_666]);
        assert_eq!(earliest(3000), 1_000_000_000);
        assert_eq!(earliest(3000 * 600 - 1), 599_999_666_666);
        assert_eq!(load.count(), 3000);
    }

    #[test]
    fn a_request_is_by_the_edges_names_and_carries_its_number() {
        let (cluster, write) = (cluster(), load("write", "setpoint"));
        let question = write.check(&cluster).unwrap();
        let sent = question.request(&write.thing(5), 5);
        let value = alwayson::Value::Integer(5);
        assert_eq!(sent, Ok(Request::write("d-1", "sp", value)));
        let call = load("call", "run").check(&cluster).unwrap();
        let inputs = InfoTable::one_row([("seconds", alwayson::Value::Number(7.0))]);
        assert_eq!(
            call.request("d-1", 7),
            Ok(Request::call("d-1", "run", Some(inputs)))
        );
        let read = load("read", "note").check(&cluster).unwrap();
        assert_eq!(read.request("d-0", 0), Ok(Request::read("d-0", "note")));
    }

    #[test]
    fn a_load_that_cannot_be_is_refused_before_it_begins() {
        let cluster = cluster();
        for (kind, target) in [("write", "own"), ("write", "none"), ("call", "setpoint")] {
            let refused = load(kind, target).check(&cluster);
            assert_eq!(refused, Err(BadLoad::Unknown(format!("d-0/{target}"))));
        }
        let refused = load("write", "note").check(&cluster);
        assert!(matches!(refused, Err(BadLoad::Unfit(_))), "{refused:?}");
        let mut still = load("write", "setpoint");
        still.per_second = 0;
        assert_eq!(still.check(&cluster), Err(BadLoad::Rate));
    }

    #[tokio::test]
    async fn all_that_was_due_is_accounted_for() {
        let cluster = cluster();
        let sent = load("write", "setpoint").send(&cluster).await.unwrap();
        assert_eq!((sent.due, sent.not_started), (3000, 0));
        let outcomes = BTreeMap::from([("NOT_BOUND".to_owned(), 3000)]);
        assert_eq!(sent.outcomes, outcomes);
        assert!(sent.done.is_empty(), "nobody has done anything");
        let mut full = load("write", "setpoint");
        full.at_once = 0;
        let sent = full.send(&cluster).await.unwrap();
        assert_eq!(
            (sent.due, sent.not_started, sent.outcomes.len()),
            (3000, 3000, 0)
        );
    }
}
