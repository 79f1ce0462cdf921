//! Letters on their way, in simulated time.

use std::sync::Mutex;

use async_trait::async_trait;
use connector_config::{MemberReport, ReportClass};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};

use super::{super::form::tests::letter, *};
use crate::identity::Identity;

/// What a shelf of the test's own has taken, and how it answers.
#[derive(Default)]
struct Taken {
    batches: Mutex<Vec<(Duration, usize, usize)>>,
    /// Sequence numbers in the order in which they were stored.
    stored: Mutex<Vec<i64>>,
    ill: Mutex<bool>,
    /// How long each answer takes.
    takes: Mutex<Duration>,
    tries: Mutex<usize>,
}

struct Held(Arc<Taken>, Instant);

impl Held {
    fn answer(&self) -> Result<(), Trouble> {
        let ill = *self.0.ill.lock().unwrap();
        if ill {
            let (class, what) = (ReportClass::Denied, "no key");
            return Err(Trouble::new(class, MemberReport::DEAD_LETTER, what));
        }
        Ok(())
    }
}

#[async_trait]
impl Shelf for Held {
    async fn prove(&mut self) -> Result<bool, Trouble> {
        self.answer().map(|()| true)
    }

    async fn put(&mut self, letters: Bytes) -> Result<(), Trouble> {
        *self.0.tries.lock().unwrap() += 1;
        let takes = *self.0.takes.lock().unwrap();
        sleep(takes).await;
        self.answer()?;
        let lines = std::str::from_utf8(&letters).unwrap().lines();
        let sequences: Vec<i64> = lines
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| line["sequenceNumber"].as_i64().unwrap())
            .collect();
        let batch = (self.1.elapsed(), sequences.len(), letters.len());
        self.0.batches.lock().unwrap().push(batch);
        self.0.stored.lock().unwrap().extend(sequences);
        Ok(())
    }
}

struct World {
    letters: DeadLetters,
    post: Post,
    taken: Arc<Taken>,
    metrics: Metrics,
    reporter: Reporter,
    begun: Instant,
}

fn world() -> World {
    let taken = Arc::new(Taken::default());
    let begun = Instant::now();
    let metrics = Metrics::new().unwrap();
    let reporter = Reporter::new(&Identity::from_env());
    let shelf = Box::new(Held(taken.clone(), begun));
    let (letters, post) = DeadLetters::start(shelf, "me", metrics.clone(), reporter.clone());
    World {
        letters,
        post,
        taken,
        metrics,
        reporter,
        begun,
    }
}

impl World {
    /// Posts letters; what is given is ready when none of their events waits.
    fn post(&self, sequences: std::ops::Range<i64>, size: usize) -> BoxFuture<'static, ()> {
        let all: FuturesUnordered<_> = sequences
            .map(|sequence| self.letters.post(letter_of(sequence, size)))
            .collect();
        all.collect::<()>().boxed()
    }

    fn ill(&self, ill: bool) {
        *self.taken.ill.lock().unwrap() = ill;
    }

    /// Letters stored and lost.
    fn counted(&self) -> (u64, u64) {
        let of = |outcome| self.metrics.letters_of(outcome);
        (of("stored"), of("lost"))
    }

    fn stored(&self) -> Vec<i64> {
        self.taken.stored.lock().unwrap().clone()
    }
}

fn letter_of(sequence: i64, size: usize) -> Letter {
    letter(sequence, vec![b'x'; size])
}

#[tokio::test(start_paused = true)]
async fn letters_of_a_second_go_together_and_their_events_wait_for_that() {
    let world = world();
    let first = world.post(0..3, 10);
    assert!(first.now_or_never().is_none(), "not before it is stored");
    // Whoever no longer waits takes nothing away.
    let second = world.post(3..5, 10);
    second.await;
    assert_eq!(world.stored(), [0, 1, 2, 3, 4]);
    assert_eq!(world.begun.elapsed(), LINGER);
    assert_eq!(world.taken.batches.lock().unwrap().len(), 1);
    assert_eq!(world.counted(), (5, 0));
    world.post(5..6, 10).await;
    assert_eq!(world.begun.elapsed(), 2 * LINGER);
    assert_eq!(world.reporter.now().reason, "");
}

/// Those of a flood came in the order in which their futures were polled.
#[tokio::test(start_paused = true)]
async fn letters_lie_in_the_order_in_which_they_were_posted() {
    let world = world();
    world.post(0..1000, 10).await;
    assert_eq!(world.stored(), (0..1000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_goes_at_once_and_none_is_larger_by_more_than_a_letter() {
    let world = world();
    world.post(0..100, 50 << 10).await;
    let batches = world.taken.batches.lock().unwrap().clone();
    assert!(batches.len() >= 5, "{batches:?}");
    for (_, _, bytes) in &batches {
        assert!(*bytes < BATCH + (51 << 10), "{batches:?}");
    }
    assert!(batches.iter().rev().skip(1).all(|(at, ..)| *at < LINGER));
    assert_eq!(world.counted(), (100, 0));
    let mut stored = world.stored();
    stored.sort_unstable();
    assert_eq!(stored, (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_shelf_that_is_down_holds_each_event_for_the_budget_and_then_none() {
    let world = world();
    world.ill(true);
    world.post(0..10, 10).await;
    assert_eq!(world.begun.elapsed(), BUDGET);
    assert_eq!(world.reporter.now().reason, "DeadLetterUnwritable");
    // Known to be down: nothing waits, but is tried.
    let since = Instant::now();
    world.post(10..20, 10).await;
    assert_eq!(since.elapsed(), Duration::ZERO);
    assert_eq!(world.counted().0, 0);

    world.ill(false);
    sleep(MAX_PAUSE + LINGER).await;
    assert_eq!(world.stored(), (10..20).collect::<Vec<_>>());
    assert_eq!(world.counted(), (10, 10));
    assert_eq!(world.reporter.now().reason, "");
    // And waits again.
    let since = Instant::now();
    world.post(20..21, 10).await;
    assert_eq!(since.elapsed(), LINGER);
    assert_eq!(world.counted(), (11, 10));
}

#[tokio::test(start_paused = true)]
async fn a_short_illness_loses_nothing() {
    let world = world();
    world.ill(true);
    let posted = world.post(0..10, 10);
    let taken = world.taken.clone();
    tokio::spawn(async move {
        sleep(BUDGET / 2).await;
        *taken.ill.lock().unwrap() = false;
    });
    posted.await;
    assert!(world.begun.elapsed() < BUDGET);
    assert_eq!(world.counted(), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_holds_nothing_longer_than_the_budget() {
    let world = world();
    *world.taken.takes.lock().unwrap() = Duration::from_secs(1000);
    world.post(0..2, 10).await;
    assert_eq!(world.begun.elapsed(), BUDGET);
    // Others do not wait at all meanwhile.
    world.post(2..3, 10).await;
    assert_eq!(world.begun.elapsed(), BUDGET);
}

/// Every message is poison and the store is down: memory stays bounded, and nothing waits.
#[tokio::test(start_paused = true)]
async fn a_flood_while_the_shelf_is_down_is_bounded_and_counted() {
    let world = world();
    world.ill(true);
    // Far more than there is room for: the rest waits outside, and no longer than the others.
    world.post(0..200, 64 << 10).await;
    assert_eq!(world.begun.elapsed(), BUDGET);
    for round in 1..5_i64 {
        let since = Instant::now();
        world.post(200 * round..200 * (round + 1), 64 << 10).await;
        assert_eq!(since.elapsed(), Duration::ZERO);
        let held = ROOM - world.letters.room.available_permits();
        assert!(held <= ROOM);
        sleep(Duration::from_secs(3)).await;
    }
    sleep(2 * BUDGET).await;
    assert_eq!(world.counted(), (0, 1000), "each is counted once");
    assert_eq!(world.letters.room.available_permits(), ROOM);
    world.ill(false);
    world.post(1000..1001, 10).await;
    sleep(2 * LINGER).await;
    assert_eq!(world.counted(), (1, 1000));
}

#[tokio::test(start_paused = true)]
async fn a_shelf_that_is_mended_is_noticed_without_a_letter() {
    let world = world();
    world.ill(true);
    sleep(LINGER).await;
    assert_eq!(world.reporter.now().reason, "DeadLetterUnwritable");
    world.ill(false);
    sleep(PROVE).await;
    assert_eq!(world.reporter.now().reason, "");
    assert_eq!(*world.taken.tries.lock().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_stores_what_nobody_waits_for() {
    let world = world();
    give_up(&world.letters.down);
    world.post(0..5, 10).await;
    assert_eq!(world.begun.elapsed(), Duration::ZERO);
    let World {
        letters,
        post,
        taken,
        ..
    } = world;
    drop(letters);
    post.end().await;
    assert_eq!(taken.stored.lock().unwrap().len(), 5);
}
