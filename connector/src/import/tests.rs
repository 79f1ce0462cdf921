//! An import through the ends of its members: whatever moment one goes at, every device has its Thing.

use std::collections::BTreeMap;

use alwayson::{InfoTable, Request, Status, Value};
use async_trait::async_trait;
use connector_config::ThingName;
use iothub::{Continuation, HubError, Page};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::{
    metrics::Metrics,
    platform::{Asked as Answer, Destination},
};

/// A registry whose pages have few devices, and which may have forgotten its continuations.
struct Registry {
    devices: usize,
    page: usize,
    /// So many continuations are refused.
    forgotten: Mutex<u32>,
}

#[async_trait]
impl Devices for Registry {
    async fn page(
        &self,
        _: Option<&str>,
        from: Option<Continuation>,
    ) -> Result<Page<String>, HubError> {
        let mut forgotten = self.forgotten.lock().unwrap();
        if from.is_some() && *forgotten > 0 {
            *forgotten -= 1;
            return Err(HubError::BadQuery {
                query: String::new(),
                answer: "the continuation token is not valid".into(),
            });
        }
        let first: usize = from.map_or(0, |from| from.as_str().parse().unwrap());
        let behind = (first + self.page).min(self.devices);
        let next = (behind < self.devices).then(|| Continuation::new(behind.to_string()));
        Ok(Page {
            items: (first..behind).map(device).collect(),
            next,
        })
    }
}

fn device(number: usize) -> String {
    format!("device-{number}")
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Made {
    enabled: bool,
    gateway: String,
}

/// What a platform does of Things. A member that may ask no more waits for ever, as one that is gone.
#[derive(Default)]
struct World {
    things: Mutex<BTreeMap<String, Made>>,
    creations: Mutex<usize>,
    events: Mutex<Vec<Json>>,
    /// Requests that are answered yet.
    left: Mutex<usize>,
}

impl World {
    fn carry_out(&self, request: &Request) -> Result<InfoTable, String> {
        let mut things = self.things.lock().unwrap();
        let row = request.params.clone().unwrap_or_default();
        let text = |field: &str| {
            let value = row.get(0, field);
            value.and_then(|value| value.as_text().map(str::to_owned))
        };
        let done = Ok(InfoTable::default());
        let target = request.target.as_str();
        if target == "AzureThingImportStatusEvent" {
            let told = alwayson::json::table_to_json(&row)["rows"][0].clone();
            self.events.lock().unwrap().push(told);
            return done;
        }
        if target == "CreateThing" {
            if text("thingTemplateName").as_deref() != Some("AzureIotThing") {
                return Err("no such template".into());
            }
            let name = text("name").unwrap();
            if things.contains_key(&name) {
                return Err(format!("{name} is taken"));
            }
            *self.creations.lock().unwrap() += 1;
            things.insert(name, Made::default());
            return done;
        }
        let thing = things.get_mut(&request.entity).ok_or("no such Thing")?;
        match target {
            "EnableThing" => thing.enabled = true,
            _ if !thing.enabled => return Err("not enabled".into()),
            "gatewayThing" => match text("gatewayThing") {
                Some(gateway) => thing.gateway = gateway,
                None => {
                    let gateway = Value::string(thing.gateway.as_str());
                    return Ok(InfoTable::one_row([("gatewayThing", gateway)]));
                }
            },
            _ => {}
        }
        done
    }
}

#[async_trait]
impl Destination for World {
    async fn ask(&self, _: Kind, request: &Request) -> Answer {
        let may = {
            let mut left = self.left.lock().unwrap();
            let may = *left > 0;
            *left = left.saturating_sub(1);
            may
        };
        if !may {
            std::future::pending::<()>().await;
        }
        // The answers of those that are under way together come in any order.
        sleep(Duration::from_millis(rand::random::<u64>() % 50)).await;
        let outcome = self.carry_out(request);
        Answer {
            outcome: outcome.map_err(|reason| Unwritten::Refused {
                status: Status::INTERNAL_ERROR,
                reason,
                proven: true,
            }),
            unanswered: Vec::new(),
        }
    }

    async fn wait_writable(&self) {}

    fn is_past(&self, _: &Arc<str>, _: Instant) -> bool {
        true
    }
}

struct Case {
    world: Arc<World>,
    ways: Ways,
    store: LocalStore,
}

impl Case {
    fn new(devices: usize, page: usize, forgotten: u32) -> Self {
        let world = Arc::new(World::default());
        let registry = Registry {
            devices,
            page,
            forgotten: Mutex::new(forgotten),
        };
        Self {
            ways: Ways {
                devices: Arc::new(registry),
                platform: world.clone(),
                hub: ThingName::new("Hub").unwrap(),
                metrics: Metrics::new().unwrap(),
            },
            world,
            store: LocalStore::open(None, MemberId::new("first")),
        }
    }

    fn member(&self, name: &str) -> Imports {
        let member = MemberId::new(name);
        let store = Arc::new(self.store.of(member.clone()));
        Imports::new(store, member, CancellationToken::new())
    }

    fn may_ask(&self, times: usize) {
        *self.world.left.lock().unwrap() = times;
    }

    async fn ended(&self) -> Record {
        loop {
            let seen = self.store.look().await.unwrap();
            match seen.record {
                Some(record) if record.state != State::Running => return record,
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

fn asked(template: &str) -> Asked {
    Asked {
        template: template.into(),
        condition: None,
    }
}

/// What the platform and the last event say of an import through these ends.
async fn through(case: &Case, ends: &[(usize, bool)]) -> Record {
    let first = case.member("member-0");
    let id = first.begin(asked("AzureIotThing")).await.unwrap();
    assert_eq!(
        first.begin(asked("Other")).await.unwrap(),
        id,
        "it is under way"
    );
    let mut member = first;
    for (number, (requests, planned)) in ends.iter().enumerate() {
        case.may_ask(*requests);
        let (stop, ways) = (member.stop.clone(), case.ways.clone());
        let running = tokio::spawn(member.run(ways));
        sleep(Duration::from_secs(5)).await;
        if *planned {
            stop.cancel();
            running.await.unwrap();
        } else {
            running.abort();
            let _ = running.await;
        }
        member = case.member(&format!("member-{}", number + 1));
    }
    case.may_ask(usize::MAX);
    let last = tokio::spawn(member.run(case.ways.clone()));
    let record = case.ended().await;
    last.abort();
    assert_eq!(record.id, id);
    record
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whenever_members_end_every_device_has_its_thing_once(
        devices in 0..120_usize,
        page in 1..40_usize,
        forgotten in 0..3_u32,
        ends in prop::collection::vec((0..300_usize, any::<bool>()), 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let case = Case::new(devices, page, forgotten);
            let record = through(&case, &ends).await;
            prop_assert_eq!(record.state, State::Completed);
            let ready = Made { enabled: true, gateway: "Hub".into() };
            let wanted = (0..devices).map(|number| (device(number), ready.clone()));
            prop_assert_eq!(&*case.world.things.lock().unwrap(), &wanted.collect());
            prop_assert_eq!(*case.world.creations.lock().unwrap(), devices);
            let Progress { place, count } = record.progress;
            prop_assert_eq!(place, record::Place::End);
            prop_assert_eq!(count.created + count.existing, devices as u64);
            prop_assert_eq!(count.failed, 0);
            let events = case.world.events.lock().unwrap();
            let told = events.last().expect("it is told");
            prop_assert_eq!(&told["importId"], &Json::from(record.id));
            prop_assert_eq!(&told["status"], "completed");
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn an_import_that_can_make_nothing_ends_at_once_and_says_why() {
    let case = Case::new(50_000, 1000, 0);
    case.may_ask(100);
    let member = case.member("member");
    member.begin(asked("Missing")).await.unwrap();
    let running = tokio::spawn(member.run(case.ways.clone()));
    let record = case.ended().await;
    running.abort();
    assert_eq!(record.state, State::Failed);
    let told = case.world.events.lock().unwrap()[0].clone();
    assert_eq!(told["status"], "failed");
    let message = told["message"].as_str().unwrap();
    for words in [
        "no such template",
        "Template Missing",
        "EntityServices.CreateThing",
    ] {
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(told["failed"], 8);
    assert_eq!(told["context"]["refused"].as_array().unwrap().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn an_import_whose_record_is_gone_is_cancelled() {
    let case = Case::new(10, 1, 0);
    let member = case.member("member");
    member.begin(asked("AzureIotThing")).await.unwrap();
    let running = tokio::spawn(member.run(case.ways.clone()));
    sleep(Duration::from_secs(5)).await;
    // Another import, as whoever deletes the Lease and asks anew makes one.
    let other = Record::new(asked("AzureIotThing"));
    let seen = case.store.look().await.unwrap();
    let over = seen.version.as_deref();
    case.store.put(over, &other, true).await.unwrap();
    case.may_ask(usize::MAX);
    sleep(RENEW * 2).await;
    running.abort();
    let record = case.store.look().await.unwrap().record.unwrap();
    assert_eq!(
        (record.id, record.progress),
        (other.id, Progress::default())
    );
}
