//! One batch of a lane → the platform, until it is settled: written, or passed and reported.
//!
//! A failure status never proves a message bad. It is passed only if its own Thing is the cause: the
//! same node does the same for other Things. Else the platform is ill and the lane waits, however long.

mod twin;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alwayson::{InfoTable, Request, Value};
use iothub::Event;
use tokio::time::{Instant, sleep};

use super::{
    Ingress,
    decode::{Content, Message, Wrong},
    definition::{Definitions, Unfit},
    lane::Batch,
    letter::Passed,
    map::{self, Mapped, PropertyValue},
    notice::Lifecycle,
    pass::{Detail, Pass, Reason, Why, shown},
    request::{Set, parts, request},
    shadow::Shadow,
};
use crate::platform::{Asked, HUB, Kind, Unwritten};

/// Wrong values that the words of one report name.
const MAX_TOLD: usize = 10;
/// How often a Thing is tried before it is taken for the cause, spread over [`PAUSE`]s: a Thing that
/// is being restarted on the platform is back within a second or two.
const TRIES: u32 = 3;
/// A Thing that fails while nothing is known of others is taken for the cause after this.
const BUDGET: Duration = Duration::from_secs(10);
/// First pause between tries; doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(250);
/// Longest pause while the platform is ill: its return is noticed within seconds.
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// For so long nobody asks again whether a Thing exists: a flood of messages for unknown devices
/// costs almost nothing, and a Thing made meanwhile loses at most these seconds of messages.
const MISSING: Duration = Duration::from_secs(5);

/// What is known of a Thing.
#[derive(Clone)]
pub enum Known {
    /// Its remote properties.
    Definitions(Arc<Definitions>),
    /// It did not exist at this time.
    Missing(Instant),
}

impl Known {
    /// No longer to be relied upon.
    #[must_use]
    pub fn is_stale(&self, now: Instant) -> bool {
        match self {
            Self::Definitions(definitions) => definitions.is_stale(now),
            Self::Missing(since) => now - *since >= MISSING,
        }
    }

    /// The definitions, if they may be fetched again for what does not fit.
    fn to_refresh(&self, unfit: Unfit, now: Instant) -> Option<(&Definitions, Unfit)> {
        match self {
            Self::Definitions(known) if known.may_refresh(unfit, now) => Some((known, unfit)),
            Self::Definitions(_) | Self::Missing(_) => None,
        }
    }
}

/// A settled batch.
pub struct Delivered {
    /// Its Thing.
    pub thing: Arc<str>,
    /// The sequence numbers of its messages that are settled.
    pub sequences: Vec<i64>,
    /// Messages that are settled once their letters are stored.
    pub passed: Vec<Passed>,
    /// What was learned of the Thing.
    pub known: Option<Known>,
    /// What the hub has said of it.
    pub shadow: Shadow,
    /// Nodes that were asked to write values and have not answered: they may write them yet.
    pub unanswered: Vec<Arc<str>>,
    /// The newest value of each property, if some node has not answered, or had not before.
    pub newest: Vec<PropertyValue>,
}

/// Settles a batch. Ends only when every message is written, or passed and reported; dropping the
/// future drops what is not.
pub async fn deliver(ingress: Arc<Ingress>, batch: Batch) -> Delivered {
    let Batch {
        thing,
        messages,
        again,
        in_doubt,
        known,
        mut shadow,
    } = batch;
    let delivery = Delivery {
        ingress,
        thing: thing.clone(),
        unanswered: Mutex::default(),
        faults: Mutex::default(),
    };
    let (known, sets) = delivery.map(&messages, known, &mut shadow).await;
    let sequences = messages.iter().map(|message| message.sequence).collect();
    // Only their values are needed from here on, and events for letters: on a slow platform these are the
    // most of what lies in memory. Not collected, which could keep the room of the messages.
    let mut events = Vec::new();
    events.extend(messages.into_iter().filter_map(|message| message.event));
    let again = Set {
        from: None,
        values: again,
    };
    let written = delivery.write(std::iter::once(again).chain(sets)).await;
    let unanswered = delivery.unanswered.into_inner();
    let unanswered = unanswered.unwrap_or_else(PoisonError::into_inner);
    let faults = delivery.faults.into_inner();
    let faults = faults.unwrap_or_else(PoisonError::into_inner);
    let (sequences, passed) = sorted(sequences, events, faults);
    Delivered {
        thing,
        sequences,
        passed,
        known,
        shadow,
        newest: if in_doubt || !unanswered.is_empty() {
            newest(written)
        } else {
            Vec::new()
        },
        unanswered,
    }
}

/// What is wrong with messages: sequence number → reasons.
type Faults = BTreeMap<i64, Vec<Arc<Why>>>;

/// Messages that are settled, by their numbers, and those that need a letter. Both are in order.
fn sorted(
    mut sequences: Vec<i64>,
    events: Vec<Arc<Event>>,
    mut faults: Faults,
) -> (Vec<i64>, Vec<Passed>) {
    let events = events.into_iter();
    let passed = events.filter_map(|event| {
        let why = faults.remove(&event.sequence)?;
        Some(Passed { event, why })
    });
    let passed: Vec<Passed> = passed.collect();
    if !passed.is_empty() {
        sequences.retain(|sequence| {
            let found = passed.binary_search_by_key(sequence, |one| one.event.sequence);
            found.is_err()
        });
    }
    (sequences, passed)
}

/// The last value of each property.
fn newest(written: Vec<Set>) -> Vec<PropertyValue> {
    let mut last = std::collections::HashMap::new();
    for value in written.into_iter().flat_map(|set| set.values) {
        last.insert(value.name.clone(), value);
    }
    last.into_values().collect()
}

/// How long a Thing is given before it is taken for the cause of refusals.
#[derive(Clone, Copy)]
struct Patience {
    tries: u32,
    budget: Duration,
}

impl Patience {
    const FULL: Self = Self {
        tries: TRIES,
        budget: BUDGET,
    };
    const NONE: Self = Self {
        tries: 1,
        budget: Duration::ZERO,
    };
}

struct Delivery {
    ingress: Arc<Ingress>,
    thing: Arc<str>,
    /// Nodes that have not answered a write.
    unanswered: Mutex<Vec<Arc<str>>>,
    /// What is wrong with the messages; empty if letters are not wanted.
    faults: Mutex<Faults>,
}

impl Delivery {
    /// What the messages make of the Thing's properties, in sets of values that belong together.
    async fn map(
        &self,
        messages: &[Message],
        known: Option<Known>,
        shadow: &mut Shadow,
    ) -> (Option<Known>, Vec<Set>) {
        let writes = |one: &&Message| !matches!(one.content, Content::Lifecycle(_));
        let (known, telemetry) = if messages.iter().any(|one| writes(&one)) {
            self.telemetry(messages, known).await
        } else {
            (known, Vec::new())
        };
        if matches!(known, Some(Known::Missing(_))) {
            let writing = messages.iter().filter(writes);
            self.pass_missing(writing.map(|message| message.sequence));
        }
        let mut telemetry = telemetry.into_iter();
        let mut sets = Vec::new();
        for message in messages {
            let telemetry = telemetry.next().unwrap_or_default();
            let mapped = match (&message.content, &known) {
                (Content::Lifecycle(lifecycle), _) => {
                    self.fire(message.sequence, lifecycle).await;
                    shadow.forget();
                    continue;
                }
                (Content::Telemetry(_), _) => telemetry,
                (Content::Twin(change), Some(Known::Definitions(definitions))) => {
                    let sequence = message.sequence;
                    self.twin(sequence, change, definitions, shadow).await
                }
                (Content::Connection(change), Some(Known::Definitions(definitions))) => {
                    match &self.ingress.messages.connection_property {
                        Some(name) if shadow.is_news(change) => {
                            map::connection(change, name, definitions)
                        }
                        _ => continue,
                    }
                }
                (Content::Twin(_) | Content::Connection(_), _) => continue,
            };
            let from = Some(message.sequence);
            let rows = mapped.rows.into_iter();
            sets.extend(rows.map(|values| Set { from, values }));
            self.pass_wrong(message.sequence, &mapped.wrong);
        }
        (known, sets)
    }

    /// What is known of the Thing, as fresh as these messages need it, and what that makes of their
    /// telemetry, message by message.
    async fn telemetry(
        &self,
        messages: &[Message],
        known: Option<Known>,
    ) -> (Option<Known>, Vec<Mapped>) {
        let map = |known: &Known| match known {
            Known::Missing(_) => Vec::new(),
            Known::Definitions(definitions) => messages
                .iter()
                .map(|message| match &message.content {
                    Content::Telemetry(telemetry) => map::telemetry(telemetry, definitions),
                    Content::Twin(_) | Content::Lifecycle(_) | Content::Connection(_) => {
                        Mapped::default()
                    }
                })
                .collect::<Vec<_>>(),
        };
        let fresh = known.filter(|known| !known.is_stale(Instant::now()));
        let known = match fresh {
            Some(known) => known,
            None => self.look_up(None).await,
        };
        let mapped = map(&known);
        let mut unfit = Unfit::default();
        for one in &mapped {
            unfit |= one.unfit;
        }
        let earlier = known.to_refresh(unfit, Instant::now());
        if earlier.is_some() {
            // A property may have been added, or its type changed, while its messages flow.
            let known = self.look_up(earlier).await;
            let mapped = map(&known);
            return (Some(known), mapped);
        }
        (Some(known), mapped)
    }

    /// Fires the event by which PTC's connector tells that a device was created or deleted.
    async fn fire(&self, sequence: i64, lifecycle: &Lifecycle) {
        let Lifecycle { status, twin } = lifecycle;
        let data = InfoTable::one_row([
            ("deviceId", Value::string(self.thing.as_ref())),
            ("status", Value::string(status.as_str())),
            ("twin", Value::json(twin.to_string())),
        ]);
        let event = Request::event(HUB, "AzureThingLifecycleEvent", data);
        let event = &event;
        let asked = self.until_settled(Patience::FULL, move || async move {
            self.ingress.platform.ask(Kind::Read, event).await.outcome
        });
        if let Err(refusal) = asked.await {
            let message = format!(
                "{HUB} does not take AzureThingLifecycleEvent ({status} of {}): {refusal}",
                self.thing
            );
            self.pass([sequence], Reason::Internal, message, Detail::None);
        }
    }

    async fn look_up(&self, earlier: Option<(&Definitions, Unfit)>) -> Known {
        let Ingress {
            platform,
            shapes,
            write,
            ..
        } = self.ingress.as_ref();
        let fetch = || Definitions::fetch(platform.as_ref(), shapes, *write, &self.thing, earlier);
        match self.until_settled(Patience::FULL, fetch).await {
            Ok(definitions) => Known::Definitions(definitions),
            Err(_) => Known::Missing(Instant::now()),
        }
    }

    /// Writes sets of values in order; a refused request is halved until the set at fault stands alone,
    /// so that it takes no other with it. Gives back what was written.
    async fn write(&self, sets: impl Iterator<Item = Set>) -> Vec<Set> {
        let mut written = Vec::new();
        let mut todo = parts(sets);
        // The first is taken first.
        todo.reverse();
        let mut patience = Patience::FULL;
        while let Some(mut part) = todo.pop() {
            let values: usize = part.iter().map(|set| set.values.len()).sum();
            let request = &request(&self.thing, &part, self.ingress.write);
            let write = move || async move {
                let asked = self.ingress.platform.ask(Kind::Write, request).await;
                let Asked {
                    outcome,
                    unanswered,
                } = asked;
                self.doubt(unanswered);
                outcome
            };
            let asked = self.until_settled(patience, write);
            let Err(refusal) = asked.await else {
                self.ingress.metrics.values.inc_by(values as u64);
                written.append(&mut part);
                continue;
            };
            // The Thing is found to be the cause: looking for the set must not take as long again.
            patience = Patience::NONE;
            if part.len() > 1 {
                let rest = part.split_off(part.len() / 2);
                todo.push(rest);
                todo.push(part);
            } else {
                let message = format!(
                    "the platform refuses values of Thing {}: {refusal}",
                    self.thing
                );
                let refused = Detail::refused(part.iter().flat_map(|set| &set.values));
                let from = part.iter().filter_map(|set| set.from);
                self.pass(from, Reason::WriteProperty, message, refused);
            }
        }
        written
    }

    fn doubt(&self, unanswered: Vec<Arc<str>>) {
        if !unanswered.is_empty() {
            let mut all = self
                .unanswered
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            all.extend(unanswered);
            all.sort();
            all.dedup();
        }
    }

    /// Repeats `attempt` while the platform is the cause of its failure; gives up with the refusal
    /// once the Thing is.
    async fn until_settled<T, F>(
        &self,
        patience: Patience,
        attempt: impl Fn() -> F,
    ) -> Result<T, String>
    where
        F: Future<Output = Result<T, Unwritten>>,
    {
        let (mut blamed, mut since, mut pause) = (0, Instant::now(), PAUSE);
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(Unwritten::TooLarge(reason)) => return Err(reason),
                Err(Unwritten::Refused { reason, proven, .. }) => {
                    blamed += 1;
                    if blamed >= patience.tries && (proven || since.elapsed() >= patience.budget) {
                        return Err(reason);
                    }
                }
                Err(Unwritten::NodeIll { .. } | Unwritten::NoNode | Unwritten::Unanswered) => {
                    (blamed, since) = (0, Instant::now());
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
            self.ingress.platform.wait_writable().await;
        }
    }

    fn pass_missing(&self, sequences: impl Iterator<Item = i64> + Clone) {
        let messages = sequences.clone().count();
        let message = format!(
            "no Thing {} that accepts the telemetry of this device; {messages} message(s) passed",
            self.thing
        );
        for _ in 1..messages {
            self.ingress.passes.count(Reason::ThingNotFound);
        }
        self.pass(sequences, Reason::ThingNotFound, message, Detail::None);
    }

    fn pass_wrong(&self, sequence: i64, wrong: &[Wrong]) {
        if wrong.is_empty() {
            return;
        }
        let list = wrong.iter().take(MAX_TOLD).map(|one| {
            let Wrong {
                name,
                wanted,
                needed,
            } = one;
            format!("{} ({wanted} needs {needed})", shown(name))
        });
        let message = format!(
            "{} value(s) of the wrong type: {}",
            wrong.len(),
            list.collect::<Vec<_>>().join(", ")
        );
        self.pass([sequence], Reason::Protocol, message, Detail::wrong(wrong));
    }

    /// Passes the messages of these sequence numbers, or values of theirs.
    fn pass(
        &self,
        sequences: impl IntoIterator<Item = i64>,
        reason: Reason,
        message: String,
        detail: Detail,
    ) {
        let pass = Pass {
            reason,
            thing: self.thing.to_string(),
            message,
            detail,
        };
        if self.ingress.letters.is_some() {
            let why = Arc::new(Why::from(&pass));
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            for sequence in sequences {
                faults.entry(sequence).or_default().push(why.clone());
            }
        }
        self.ingress.passes.pass(pass);
    }
}
