//! What can never succeed is passed, counted and reported on `ConnectionServicesHub`; never in silence.

use std::sync::{Arc, Mutex, PoisonError};

use alwayson::{BaseType, Field, InfoTable, Request, Value};
use serde_json::{Map, Value as Json};
use tokio::{sync::mpsc, time::Instant};

use super::{decode::Wrong, map::PropertyValue, quality::Quality, quota::Quota};
use crate::{
    metrics::Metrics,
    platform::{Destination, HUB, Kind},
};

/// Reports that wait to be sent. Beyond that they are only counted: a flood of bad messages must not
/// hold up good ones.
const QUEUE: usize = 256;
/// Properties that one report names, and how long a name it shows: both are the device's to choose.
const MAX_NAMED: usize = 50;
const MAX_NAME: usize = 128;

/// Why an event, or a value of it, is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No Thing has the device's name.
    ThingNotFound,
    /// The message or one of its values has the wrong form.
    Protocol,
    /// The platform refuses the values of this Thing.
    WriteProperty,
    /// Something that the connector needs cannot be had.
    Internal,
    /// Not a kind of event that is carried.
    Kind,
}

impl Reason {
    /// The event of `ConnectionServicesHub`; none for what is no error.
    fn event(self) -> Option<&'static str> {
        match self {
            Self::ThingNotFound => Some("ThingNotFoundError"),
            Self::Protocol => Some("ProtocolError"),
            Self::WriteProperty => Some("WritePropertyError"),
            Self::Internal => Some("InternalError"),
            Self::Kind => None,
        }
    }

    /// The word for it in metrics and letters.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ThingNotFound => "thing_not_found",
            Self::Protocol => "protocol",
            Self::WriteProperty => "write_property",
            Self::Internal => "internal",
            Self::Kind => "kind",
        }
    }
}

/// One passed event, or some values of it.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Why.
    pub reason: Reason,
    /// The Thing; empty where it is not known.
    pub thing: String,
    /// In words.
    pub message: String,
    /// What the report says beyond that.
    pub detail: Detail,
}

/// Why an event was passed, as its letter says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The reason.
    pub reason: Reason,
    /// In words: those of the report.
    pub message: String,
    /// The values at fault.
    pub values: Vec<String>,
}

impl From<&Pass> for Why {
    fn from(pass: &Pass) -> Self {
        let mut values: Vec<String> = match &pass.detail {
            Detail::None => Vec::new(),
            Detail::Wrong(wrong) => wrong.keys().cloned().collect(),
            Detail::Refused(values) => values.iter().map(|(name, ..)| name.clone()).collect(),
        };
        values.sort();
        values.dedup();
        Self {
            reason: pass.reason,
            message: pass.message.clone(),
            values,
        }
    }
}

/// What a report says beyond its words.
#[derive(Debug, Clone, Default)]
pub enum Detail {
    /// Nothing.
    #[default]
    None,
    /// Values of the wrong type: name → type.
    Wrong(Map<String, Json>),
    /// Values that the platform refuses: name, time and quality.
    Refused(Vec<(String, i64, Quality)>),
}

impl Detail {
    /// Values of the wrong type.
    #[must_use]
    pub fn wrong(wrong: &[Wrong]) -> Self {
        let named = wrong.iter().take(MAX_NAMED);
        Self::Wrong(
            named
                .map(|one| (shown(&one.name), Json::from(one.wanted)))
                .collect(),
        )
    }

    /// Values that the platform refuses.
    pub fn refused<'a>(values: impl Iterator<Item = &'a PropertyValue>) -> Self {
        let named = values.take(MAX_NAMED);
        Self::Refused(
            named
                .map(|value| (shown(&value.name), value.time_ms, value.quality))
                .collect(),
        )
    }
}

/// A name of a device's own choice, fit to be shown.
#[must_use]
pub fn shown(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

/// Takes passes; reports them in the background.
#[derive(Clone)]
pub struct Passes {
    queue: mpsc::Sender<Pass>,
    quota: Arc<Mutex<Quota<Reason>>>,
    metrics: Metrics,
}

impl Passes {
    /// Starts reporting to the platform; ends when the last clone is dropped. `own` is the connector's
    /// own Thing.
    #[must_use]
    pub fn start(platform: Arc<dyn Destination>, metrics: Metrics, own: &str) -> Self {
        let (queue, mut passes) = mpsc::channel::<Pass>(QUEUE);
        let own = own.to_owned();
        let passes_task = async move {
            while let Some(pass) = passes.recv().await {
                let Some(event) = pass.reason.event() else {
                    continue;
                };
                let id = format!("{:032x}", rand::random::<u128>());
                let request = Request::event(HUB, event, table(&pass, &own, &id));
                // An event that the platform does not take is counted and logged already.
                if let Err(error) = platform.ask(Kind::Read, &request).await.outcome {
                    tracing::debug!(%error, event, "the platform did not take an event");
                }
            }
        };
        tokio::spawn(passes_task);
        Self {
            queue,
            quota: Arc::new(Mutex::new(Quota::new(Instant::now()))),
            metrics,
        }
    }

    /// Counts an event that is passed and reported together with another.
    pub fn count(&self, reason: Reason) {
        self.metrics
            .passed
            .with_label_values(&[reason.label()])
            .inc();
    }

    /// Counts and reports an event that is passed. The same trouble of one Thing is reported a few times
    /// a minute, and counted every time.
    pub fn pass(&self, pass: Pass) {
        self.count(pass.reason);
        tracing::debug!(
            thing = pass.thing,
            reason = pass.reason.label(),
            "{}",
            pass.message
        );
        if pass.reason.event().is_none() {
            return;
        }
        let mut quota = self.quota.lock().unwrap_or_else(PoisonError::into_inner);
        if quota.take(&pass.thing, pass.reason, Instant::now()) {
            // A full queue loses the report, not the count.
            let _ = self.queue.try_send(pass);
        }
    }
}

/// The fields of PTC's `CXSEvent` Data Shapes.
fn table(pass: &Pass, own: &str, id: &str) -> InfoTable {
    let Pass {
        reason,
        thing,
        message,
        detail,
    } = pass;
    let context = match detail {
        Detail::None | Detail::Refused(_) => Map::new(),
        Detail::Wrong(wrong) => wrong.clone(),
    };
    let (name, subject) = match reason {
        Reason::ThingNotFound => ("edgeIdentifier", thing.as_str()),
        Reason::Internal => ("ThingName", own),
        Reason::Protocol | Reason::WriteProperty | Reason::Kind => ("ThingName", thing.as_str()),
    };
    let mut cells = vec![
        ("id", Value::string(id)),
        ("message", Value::string(message.as_str())),
        (name, Value::string(subject)),
        ("context", Value::json(Json::Object(context).to_string())),
    ];
    if let Detail::Refused(values) = detail {
        cells.push(("properties", Value::InfoTable(properties(values))));
    }
    InfoTable::one_row(cells)
}

fn properties(values: &[(String, i64, Quality)]) -> InfoTable {
    let mut table = InfoTable::new([
        Field::new("name", BaseType::String),
        Field::new("timestamp", BaseType::DateTime),
        Field::new("quality", BaseType::String),
    ]);
    for (name, time_ms, quality) in values {
        // Three cells for three fields always fit.
        let _ = table.push(&[
            Value::string(name.as_str()),
            Value::DateTime(*time_ms),
            Value::string(quality.reported()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use alwayson::json::table_to_json;
    use serde_json::json;

    use super::*;

    fn row(reason: Reason, detail: Detail) -> Json {
        let pass = Pass {
            reason,
            thing: "dev".into(),
            message: "why".into(),
            detail,
        };
        table_to_json(&table(&pass, "AzureIot-me", "1"))["rows"][0].clone()
    }

    #[test]
    fn a_report_has_the_fields_of_its_data_shape() {
        assert_eq!(
            row(Reason::ThingNotFound, Detail::None),
            json!({"id": "1", "message": "why", "edgeIdentifier": "dev", "context": {}})
        );
        assert_eq!(
            row(Reason::Internal, Detail::None),
            json!({"id": "1", "message": "why", "ThingName": "AzureIot-me", "context": {}})
        );
        let wrong = Wrong {
            name: "temperature".into(),
            wanted: "NUMBER",
            needed: "a number",
        };
        assert_eq!(
            row(Reason::Protocol, Detail::wrong(&[wrong])),
            json!({
                "id": "1", "message": "why", "ThingName": "dev", "context": {"temperature": "NUMBER"}
            })
        );
        let value = PropertyValue {
            name: "n".into(),
            value: Value::Integer(1),
            time_ms: 7,
            quality: Quality::Bad,
        };
        let refused = row(Reason::WriteProperty, Detail::refused([value].iter()));
        assert_eq!(
            refused["properties"]["rows"],
            json!([{"name": "n", "timestamp": 7, "quality": "bad"}])
        );
        assert_eq!(refused["ThingName"], "dev");
    }
}
