//! One batch of a lane → the platform, until it is settled: written, or passed and reported.
//!
//! A failure status never proves a message bad. It is passed only if its own Thing is the cause: the
//! same node does the same for other Things. Else the platform is ill and the lane waits, however long.

mod twin;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alwayson::{InfoTable, Request, Value};
use tokio::time::{Instant, sleep};

use super::{
    Ingress,
    decode::{Content, Message, Wrong},
    definition::{Definitions, Unfit},
    lane::Batch,
    map::{self, Mapped, PropertyValue},
    notice::Lifecycle,
    pass::{Detail, HUB, Pass, Reason, shown},
    request::{parts, request},
    shadow::Shadow,
};
use crate::platform::{Asked, Kind, Unwritten};

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
    /// The sequence numbers of its messages.
    pub sequences: Vec<i64>,
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
    let sequences = messages.iter().map(|message| message.sequence).collect();
    let delivery = Delivery {
        ingress,
        thing: thing.clone(),
        unanswered: Mutex::default(),
    };
    let (known, rows) = delivery.map(&messages, known, &mut shadow).await;
    // Only their values are needed from here on: on a slow platform these are the most of what lies in
    // memory.
    drop(messages);
    let rows = std::iter::once(again).chain(rows).collect();
    let written = delivery.write(rows).await;
    let unanswered = delivery.unanswered.into_inner();
    let unanswered = unanswered.unwrap_or_else(PoisonError::into_inner);
    Delivered {
        thing,
        sequences,
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

/// The last value of each property.
fn newest(written: Vec<Vec<PropertyValue>>) -> Vec<PropertyValue> {
    let mut last = std::collections::HashMap::new();
    for value in written.into_iter().flatten() {
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
}

impl Delivery {
    /// What the messages make of the Thing's properties, in rows of values that belong together.
    async fn map(
        &self,
        messages: &[Message],
        known: Option<Known>,
        shadow: &mut Shadow,
    ) -> (Option<Known>, Vec<Vec<PropertyValue>>) {
        let writes = |one: &&Message| !matches!(one.content, Content::Lifecycle(_));
        let count = messages.iter().filter(writes).count();
        let (known, telemetry) = match count {
            0 => (known, Vec::new()),
            _ => self.telemetry(messages, known).await,
        };
        if matches!(known, Some(Known::Missing(_))) {
            self.pass_missing(count);
        }
        let mut telemetry = telemetry.into_iter();
        let mut rows = Vec::new();
        for message in messages {
            let telemetry = telemetry.next().unwrap_or_default();
            let mapped = match (&message.content, &known) {
                (Content::Lifecycle(lifecycle), _) => {
                    self.fire(lifecycle).await;
                    shadow.forget();
                    continue;
                }
                (Content::Telemetry(_), _) => telemetry,
                (Content::Twin(change), Some(Known::Definitions(definitions))) => {
                    self.twin(change, definitions, shadow).await
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
            rows.extend(mapped.rows);
            self.pass_wrong(&mapped.wrong);
        }
        (known, rows)
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
    async fn fire(&self, lifecycle: &Lifecycle) {
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
            self.pass(Reason::Internal, message, Detail::None);
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

    /// Writes rows of values in order; a refused request is halved until the row at fault stands alone,
    /// so that it takes no other with it. Gives back what was written.
    async fn write(&self, rows: Vec<Vec<PropertyValue>>) -> Vec<Vec<PropertyValue>> {
        let mut written = Vec::new();
        let mut todo = parts(rows);
        // The first is taken first.
        todo.reverse();
        let mut patience = Patience::FULL;
        while let Some(mut part) = todo.pop() {
            let values: usize = part.iter().map(Vec::len).sum();
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
            // The Thing is found to be the cause: looking for the row must not take as long again.
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
                let refused = Detail::refused(part.iter().flatten());
                self.pass(Reason::WriteProperty, message, refused);
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

    fn pass_missing(&self, messages: usize) {
        let message = format!(
            "no Thing {} that accepts the telemetry of this device; {messages} message(s) passed",
            self.thing
        );
        for _ in 1..messages {
            self.ingress.passes.count(Reason::ThingNotFound);
        }
        self.pass(Reason::ThingNotFound, message, Detail::None);
    }

    fn pass_wrong(&self, wrong: &[Wrong]) {
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
        self.pass(Reason::Protocol, message, Detail::wrong(wrong));
    }

    fn pass(&self, reason: Reason, message: String, detail: Detail) {
        self.ingress.passes.pass(Pass {
            reason,
            thing: self.thing.to_string(),
            message,
            detail,
        });
    }
}
