//! One batch of a lane → the platform, until it is settled: written, or passed and reported.
//!
//! A failure status never proves a message bad. It is passed only if its own Thing is the cause: the
//! same node does the same for other Things. Else the platform is ill and the lane waits, however long.

use std::{sync::Arc, time::Duration};

use alwayson::{BaseType, Field, InfoTable, Request, Value};
use tokio::time::{Instant, sleep};

use super::{
    Ingress,
    decode::Telemetry,
    definition::Definitions,
    lane::Batch,
    map::{Mapped, PropertyValue, map},
    pass::{Pass, Reason},
};
use crate::platform::{Kind, Unwritten};

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
}

/// A settled batch.
pub struct Delivered {
    /// Its Thing.
    pub thing: Arc<str>,
    /// The sequence numbers of its messages.
    pub sequences: Vec<i64>,
    /// What was learned of the Thing.
    pub known: Option<Known>,
}

/// Settles a batch. Ends only when every message is written, or passed and reported; dropping the
/// future drops what is not.
pub async fn deliver(ingress: Ingress, batch: Batch) -> Delivered {
    let Batch {
        thing,
        messages,
        known,
    } = batch;
    let sequences = messages.iter().map(|message| message.sequence).collect();
    let delivery = Delivery {
        ingress,
        thing: thing.clone(),
    };
    let known = delivery.run(&messages, known).await;
    Delivered {
        thing,
        sequences,
        known: Some(known),
    }
}

struct Delivery {
    ingress: Ingress,
    thing: Arc<str>,
}

impl Delivery {
    async fn run(&self, messages: &[Telemetry], known: Option<Known>) -> Known {
        let fresh = known.filter(|known| !known.is_stale(Instant::now()));
        let known = match fresh {
            Some(known) => known,
            None => self.look_up().await,
        };
        let Known::Definitions(mut definitions) = known else {
            self.pass_missing(messages.len());
            return known;
        };
        let mut mapped: Vec<Mapped> = messages.iter().map(|one| map(one, &definitions)).collect();
        let unfit = |mapped: &[Mapped]| {
            mapped
                .iter()
                .any(|one| !one.unknown.is_empty() || !one.wrong.is_empty())
        };
        if unfit(&mapped) && definitions.may_refresh(Instant::now()) {
            // A property may have been added, or its type changed, while its messages flow.
            let Known::Definitions(again) = self.look_up().await else {
                self.pass_missing(messages.len());
                return Known::Missing(Instant::now());
            };
            definitions = again;
            mapped = messages.iter().map(|one| map(one, &definitions)).collect();
        }
        for one in &mapped {
            self.pass_wrong(one);
        }
        self.write(mapped.into_iter().map(|one| one.values).collect())
            .await;
        Known::Definitions(definitions)
    }

    async fn look_up(&self) -> Known {
        let fetch = || Definitions::fetch(&self.ingress.platform, &self.thing);
        match self.until_settled(fetch).await {
            Ok(definitions) => Known::Definitions(definitions),
            Err(_) => Known::Missing(Instant::now()),
        }
    }

    /// Writes the values of messages in order; a refused request is halved until the message at fault
    /// stands alone, so that it takes no other with it.
    async fn write(&self, messages: Vec<Vec<PropertyValue>>) {
        let mut todo = vec![messages];
        while let Some(mut part) = todo.pop() {
            let values: usize = part.iter().map(Vec::len).sum();
            if values == 0 {
                continue;
            }
            let request = request(&self.thing, part.iter().flatten());
            let asked = self.until_settled(|| self.ingress.platform.ask(Kind::Write, &request));
            let Err(refusal) = asked.await else {
                self.ingress.metrics.values.inc_by(values as u64);
                continue;
            };
            if part.len() > 1 {
                let rest = part.split_off(part.len() / 2);
                todo.push(rest);
                todo.push(part);
            } else {
                let message = format!(
                    "the platform refuses values of Thing {}: {refusal}",
                    self.thing
                );
                self.pass(Reason::WriteProperty, message);
            }
        }
    }

    /// Repeats `attempt` while the platform is the cause of its failure; gives up with the refusal
    /// once the Thing is.
    async fn until_settled<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, String>
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
                    if blamed >= TRIES && (proven || since.elapsed() >= BUDGET) {
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
        self.pass(Reason::ThingNotFound, message);
    }

    fn pass_wrong(&self, mapped: &Mapped) {
        if mapped.wrong.is_empty() {
            return;
        }
        let list: Vec<String> = mapped
            .wrong
            .iter()
            .map(|(name, base)| format!("{name} is no {}", base.name()))
            .collect();
        self.pass(
            Reason::Protocol,
            format!("values of the wrong type: {}", list.join(", ")),
        );
    }

    fn pass(&self, reason: Reason, message: String) {
        self.ingress.passes.pass(Pass {
            reason,
            thing: self.thing.to_string(),
            message,
        });
    }
}

/// `UpdateSubscribedPropertyValues` with one row per value, in order.
fn request<'a>(thing: &str, values: impl Iterator<Item = &'a PropertyValue>) -> Request {
    let mut table = InfoTable::new(vec![
        Field::new("name", BaseType::String),
        Field::new("value", BaseType::Variant),
        Field::new("time", BaseType::DateTime),
        Field::new("quality", BaseType::String),
    ]);
    for PropertyValue {
        name,
        value,
        time_ms,
    } in values
    {
        // A row of four cells for four fields always fits.
        let _ = table.push(&[
            Value::string(name.as_str()),
            Value::Variant(Box::new(value.clone())),
            Value::DateTime(*time_ms),
            Value::string("GOOD"),
        ]);
    }
    let params = InfoTable::one_row([("values", Value::InfoTable(table))]);
    Request::call(thing, "UpdateSubscribedPropertyValues", Some(params))
}
