//! What can never succeed is passed, counted and reported on `ConnectionServicesHub`; never in silence.

use alwayson::{InfoTable, Request, Value};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    metrics::Metrics,
    platform::{Kind, Platform},
};

/// The Thing on the platform that carries a connector's events.
const HUB: &str = "ConnectionServicesHub";
/// Reports that wait to be sent. Beyond that they are only counted: a flood of bad messages must not
/// hold up good ones.
const QUEUE: usize = 256;

/// Why an event is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No Thing has the device's name.
    ThingNotFound,
    /// The message or one of its values has the wrong form.
    Protocol,
    /// The platform refuses the values of this Thing.
    WriteProperty,
    /// Not telemetry.
    Kind,
}

impl Reason {
    /// The event of `ConnectionServicesHub`; none for what is no error.
    fn event(self) -> Option<&'static str> {
        match self {
            Self::ThingNotFound => Some("ThingNotFoundError"),
            Self::Protocol => Some("ProtocolError"),
            Self::WriteProperty => Some("WritePropertyError"),
            Self::Kind => None,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::ThingNotFound => "thing_not_found",
            Self::Protocol => "protocol",
            Self::WriteProperty => "write_property",
            Self::Kind => "kind",
        }
    }
}

/// One passed event, or one value of it.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Why.
    pub reason: Reason,
    /// The Thing, where it is known.
    pub thing: String,
    /// In words.
    pub message: String,
}

/// Takes passes; reports them in the background.
#[derive(Clone)]
pub struct Passes {
    queue: mpsc::Sender<Pass>,
    metrics: Metrics,
}

impl Passes {
    /// Starts reporting to the platform; ends when the last clone is dropped.
    #[must_use]
    pub fn start(platform: Platform, metrics: Metrics) -> Self {
        let (queue, mut passes) = mpsc::channel::<Pass>(QUEUE);
        let passes_task = async move {
            while let Some(pass) = passes.recv().await {
                let Some(event) = pass.reason.event() else {
                    continue;
                };
                let request = Request::event(HUB, event, table(&pass));
                // An event that the platform does not take is counted and logged already.
                if let Err(error) = platform.ask(Kind::Read, &request).await {
                    tracing::debug!(%error, event, "the platform did not take an event");
                }
            }
        };
        tokio::spawn(passes_task);
        Self { queue, metrics }
    }

    /// Counts an event that is passed and reported together with another.
    pub fn count(&self, reason: Reason) {
        self.metrics
            .passed
            .with_label_values(&[reason.label()])
            .inc();
    }

    /// Counts and reports an event that is passed.
    pub fn pass(&self, pass: Pass) {
        self.count(pass.reason);
        tracing::debug!(
            thing = pass.thing,
            reason = pass.reason.label(),
            "{}",
            pass.message
        );
        // A full queue loses the report, not the count.
        let _ = self.queue.try_send(pass);
    }
}

/// The fields of PTC's `CXSEvent` Data Shapes.
fn table(pass: &Pass) -> InfoTable {
    let string = |text: &str| Value::string(text);
    let context = json!({ "message": pass.message, "ThingName": pass.thing });
    let id = format!("{:032x}", rand::random::<u128>());
    let thing = match pass.reason {
        Reason::ThingNotFound => "edgeIdentifier",
        _ => "ThingName",
    };
    InfoTable::one_row([
        ("id", string(&id)),
        ("message", string(&pass.message)),
        (thing, string(&pass.thing)),
        ("context", Value::json(context.to_string())),
    ])
}
