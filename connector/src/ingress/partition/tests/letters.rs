//! Events that can never be written are settled once their letters are stored.

use alwayson::{Request, Status};
use bytes::Bytes;
use connector_config::{MemberReport, ReportClass};
use serde_json::json;

use super::*;
use crate::{
    ingress::{DeadLetters, Shelf},
    platform::{Asked, Kind, Unwritten},
    report::Trouble,
};

/// A shelf that can be ill or slow.
#[derive(Default)]
struct Taken {
    letters: Mutex<Vec<Json>>,
    ill: Mutex<bool>,
    /// Whoever has it lets nothing be stored.
    gate: tokio::sync::Mutex<()>,
}

struct Held(Arc<Taken>);

#[async_trait]
impl Shelf for Held {
    async fn prove(&mut self) -> Result<bool, Trouble> {
        Ok(false)
    }

    async fn put(&mut self, letters: Bytes) -> Result<(), Trouble> {
        let _open = self.0.gate.lock().await;
        if *self.0.ill.lock().unwrap() {
            let class = ReportClass::Transient;
            return Err(Trouble::new(class, MemberReport::DEAD_LETTER, "ill"));
        }
        let lines = std::str::from_utf8(&letters).unwrap().lines();
        let letters = lines.map(|line| serde_json::from_str(line).unwrap());
        self.0.letters.lock().unwrap().extend(letters);
        Ok(())
    }
}

impl Taken {
    /// Letters by their sequence numbers. After the process stood still, as on a busy machine, events are read
    /// again, and their letters are there twice.
    fn letters(&self) -> BTreeMap<i64, Json> {
        let all = self.letters.lock().unwrap().clone();
        let by_number = |letter: Json| (letter["sequenceNumber"].as_i64().unwrap(), letter);
        all.into_iter().map(by_number).collect()
    }

    fn numbers(&self) -> Vec<i64> {
        self.letters().into_keys().collect()
    }
}

/// Longer than any test, however long it stands still on a busy machine.
const NO_END: Duration = Duration::from_secs(3600);

/// A world whose letters are kept, and tried for so long.
async fn world_with_letters_tried_for(budget: Duration) -> (World, Arc<Taken>) {
    let mut world = world(StartPosition::Earliest).await;
    let taken = Arc::new(Taken::default());
    let ingress = Arc::get_mut(&mut world.ingress).unwrap();
    let (metrics, reporter) = (ingress.metrics.clone(), ingress.reporter.clone());
    let shelf = Box::new(Held(taken.clone()));
    let (letters, _) = DeadLetters::trying_for(budget, shelf, "AzureIot-me", metrics, reporter);
    ingress.letters = Some(letters);
    (world, taken)
}

/// A world in which no letter is given up.
async fn world_with_letters() -> (World, Arc<Taken>) {
    world_with_letters_tried_for(NO_END).await
}

/// The platform, which refuses one value of one Thing.
struct Picky(Arc<dyn Destination>);

#[async_trait]
impl Destination for Picky {
    async fn ask(&self, kind: Kind, request: &Request) -> Asked {
        if kind == Kind::Write && format!("{request:?}").contains("Integer(13)") {
            let outcome = Err(Unwritten::Refused {
                status: Status::INTERNAL_ERROR,
                reason: "13 is not allowed".into(),
                proven: true,
            });
            return Asked {
                outcome,
                unanswered: Vec::new(),
            };
        }
        self.0.ask(kind, request).await
    }

    async fn wait_writable(&self) {
        self.0.wait_writable().await;
    }

    fn is_past(&self, node: &Arc<str>, since: Instant) -> bool {
        self.0.is_past(node, since)
    }
}

fn reasons(letter: &Json) -> Vec<&str> {
    let why = letter["why"].as_array().unwrap().iter();
    why.map(|why| why["reason"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn only_messages_at_fault_get_a_letter_with_each_reason() {
    let (mut world, taken) = world_with_letters().await;
    let ingress = Arc::get_mut(&mut world.ingress).unwrap();
    ingress.platform = Arc::new(Picky(ingress.platform.clone()));
    world.send(0..4);
    world.send_one(4, r#"[{"n":"warm"},{"n":13}]"#);
    world.send(5..20);
    world.send_one(20, "no json");
    world.send_from("ghost", 21, r#"{"n":21}"#);
    world.send_from("ghost", 22, r#"{"n":22}"#);
    let mut nameless = event(23, "{}");
    nameless.device = None;
    let mut other = event(24, "{}");
    other.source = MessageSource::Other("digitalTwinChangeEvents".into());
    world.hub.events.lock().unwrap().extend([nameless, other]);
    world.send(25..26);
    let (stop, task) = world.start(None);
    world
        .eventually("all letters are there", |_| taken.letters().len() == 6)
        .await;
    world
        .eventually("all others are written", |world| {
            world.written().len() == 19
        })
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(25)));
    let good = (0..4).chain(5..13).chain(14..20).chain(25..26);
    assert_eq!(world.written(), good.collect::<Vec<_>>());
    let letters = taken.letters();
    assert_eq!(taken.numbers(), [4, 13, 20, 21, 22, 23]);
    assert_eq!(reasons(&letters[&4]), ["protocol", "write_property"]);
    assert_eq!(letters[&4]["body"], r#"[{"n":"warm"},{"n":13}]"#);
    assert_eq!(letters[&4]["why"][0]["values"], json!(["n"]));
    assert_eq!(reasons(&letters[&13]), ["write_property"]);
    assert_eq!(letters[&13]["why"][0]["values"], json!(["n"]));
    assert_eq!(reasons(&letters[&20]), ["protocol"]);
    assert_eq!(letters[&20]["thing"], DEVICE);
    assert_eq!(reasons(&letters[&22]), ["thing_not_found"]);
    assert_eq!(letters[&22]["thing"], "ghost");
    assert_eq!(letters[&23].get("thing"), None);
    assert_eq!(letters[&4]["partition"], "0");
    assert!(world.ingress.metrics.letters_of("stored") >= 6);
    assert_eq!(world.ingress.metrics.letters_of("lost"), 0);
}

#[tokio::test]
async fn a_passed_event_is_not_checkpointed_before_its_letter_is_stored() {
    let (world, taken) = world_with_letters().await;
    let shut = taken.gate.lock().await;
    world.send(0..2);
    world.send_one(2, "no json");
    world.send_from("ghost", 3, r#"{"n":3}"#);
    world.send(4..6);
    let (stop, task) = world.start(None);
    world
        .eventually("its own Thing goes on", |world| {
            world.written() == [0, 1, 4, 5]
        })
        .await;
    world
        .eventually("the mark before it is stored", |world| {
            world.store.marks.lock().unwrap().last() >= Some(&1)
        })
        .await;
    assert_eq!(world.store.marks.lock().unwrap().last(), Some(&1));
    drop(shut);
    world
        .eventually("the letters are stored", |_| taken.numbers() == [2, 3])
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(5)));
}

/// Whoever comes next writes the letter again: at least once, like everything else.
#[tokio::test]
async fn a_letter_that_is_not_stored_when_the_claim_is_lost_is_left_to_the_next_owner() {
    let (world, taken) = world_with_letters().await;
    let shut = taken.gate.lock().await;
    world.send_one(0, "no json");
    let (_stop, task) = world.start(None);
    world
        .eventually("it is passed", |world| {
            let passed = &world.ingress.metrics.passed;
            passed.with_label_values(&["protocol"]).get() == 1
        })
        .await;
    *world.store.confirms.lock().unwrap() = Some(ClaimError::Lost);
    world.cut(HubError::Evicted {
        partition: "0".into(),
    });
    timeout(SOON, task).await.unwrap().unwrap();
    assert!(world.store.marks.lock().unwrap().is_empty());
    drop(shut);
    *world.store.confirms.lock().unwrap() = None;
    let (stop, task) = world.start(None);
    world
        .eventually("the letter is there, perhaps twice", |_| {
            !taken.letters.lock().unwrap().is_empty()
        })
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(0)));
}

#[tokio::test]
async fn a_shelf_that_is_down_holds_up_no_other_thing() {
    let (world, taken) = world_with_letters().await;
    *taken.ill.lock().unwrap() = true;
    // More Things at fault than are written to at the same time.
    for sequence in 0..200 {
        world.send_from(&format!("ghost-{sequence}"), sequence, r#"{"n":1}"#);
    }
    world.send(200..300);
    let (stop, task) = world.start(None);
    world
        .eventually("good messages flow", |world| world.written().len() == 100)
        .await;
    assert!(taken.letters().is_empty());
    *taken.ill.lock().unwrap() = false;
    world
        .eventually("the others have letters", |_| taken.letters().len() == 200)
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(299)));
    assert_eq!(world.ingress.metrics.letters_of("lost"), 0);
}

#[tokio::test]
async fn a_shelf_that_is_down_holds_up_events_at_fault_for_the_budget_only() {
    let budget = Duration::from_secs(10);
    let (world, taken) = world_with_letters_tried_for(budget).await;
    *taken.ill.lock().unwrap() = true;
    for sequence in 0..200 {
        world.send_from(&format!("ghost-{sequence}"), sequence, r#"{"n":1}"#);
    }
    let begun = Instant::now();
    let (stop, task) = world.start(None);
    world
        .eventually("it is given up", |world| {
            world.ingress.metrics.letters_of("lost") >= 200
        })
        .await;
    assert!(begun.elapsed() >= budget, "not too early");
    assert_eq!(world.ingress.reporter.now().reason, "DeadLetterUnwritable");
    // Known to be down: settled at once, and tried.
    world.send_from("ghost", 200, r#"{"n":1}"#);
    world
        .eventually("the mark is stored", |world| {
            world.store.marks.lock().unwrap().contains(&200)
        })
        .await;
    *taken.ill.lock().unwrap() = false;
    world.send_from("ghost", 201, r#"{"n":1}"#);
    world
        .eventually("stored again", |_| taken.numbers().contains(&201))
        .await;
    assert_eq!(world.ingress.reporter.now().reason, "");
    stop.cancel();
    task.await.unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(201)));
}

/// What waits for its letter keeps its event in memory, which the read-ahead must see.
#[tokio::test]
async fn events_that_wait_for_their_letters_stop_reading_at_the_bound() {
    let (world, taken) = world_with_letters().await;
    let shut = taken.gate.lock().await;
    // As with many partitions, each of which has a mebibyte.
    let _others: Vec<_> = (0..15).map(|_| world.ingress.memory.share()).collect();
    let bound = world.ingress.memory.read_ahead().bytes;
    let body = "x".repeat(1000);
    let all = 4 * bound / 1000;
    for sequence in 0..i64::try_from(all).unwrap() {
        world.send_one(sequence, &body);
    }
    let (stop, task) = world.start(None);
    let passed = |world: &World| {
        let passed = &world.ingress.metrics.passed;
        usize::try_from(passed.with_label_values(&["protocol"]).get()).unwrap()
    };
    let fewest = bound / 2000;
    world
        .eventually("as much is read as may be", |world| passed(world) >= fewest)
        .await;
    sleep(Duration::from_secs(1)).await;
    // Whenever it stood still it has asked whose the claim is, and begun again.
    let begun = 1 + usize::try_from(*world.store.asked.lock().unwrap()).unwrap();
    let most = begun * (bound / 1000 + AT_ONCE);
    assert!(passed(&world) <= most, "{} of {most}", passed(&world));
    drop(shut);
    world
        .eventually("all are passed", |world| passed(world) >= all)
        .await;
    world
        .eventually("each has its letter", |_| taken.letters().len() == all)
        .await;
    stop.cancel();
    task.await.unwrap();
}
