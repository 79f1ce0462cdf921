//! What the connector answers by itself, for the names that it has bound and for its own Thing.
//!
//! The services of the own Thing are those of the Thing Template `ConnectionServer`; their results have the
//! platform's Data Shapes `EntityList`, `LogEntry`, `SystemInformation`, `SubsystemStatus` and
//! `ThingworxMetric`.

mod logs;
mod system;

use alwayson::{BaseType, InfoTable, Response, Status, Value};
use serde_json::json;

use super::{
    command::{EdgeService, OwnNames},
    table::table,
};
use crate::{log::Logs, metrics::Metrics, platform::HUB, report::Reporter};

/// What the answers are made of.
#[derive(Clone)]
pub struct Edge {
    /// Names that are not devices.
    pub own: OwnNames,
    /// What the connector measures.
    pub metrics: Metrics,
    /// How it fares.
    pub reporter: Reporter,
    /// What it logs.
    pub logs: Logs,
}

impl Edge {
    /// Answers a service.
    #[must_use]
    pub fn answer(&self, service: EdgeService, entity: &str) -> Response {
        match service {
            EdgeService::GetMetadata => Response::result(metadata(entity)),
            EdgeService::NotifyPropertyUpdate => Response::ok(),
            // No values of our own: a device's are written when it reports them.
            EdgeService::SynchronizeModelState => Response::with(table(
                [
                    ("name", BaseType::String),
                    ("time", BaseType::DateTime),
                    ("value", BaseType::Variant),
                    ("quality", BaseType::String),
                ],
                [],
            )),
            EdgeService::GetBoundEntities => Response::with(self.bound()),
            EdgeService::GetPerformanceMetrics => Response::with(system::metrics(&self.metrics)),
            EdgeService::GetSystemInformation => {
                Response::with(system::information(&self.own, &self.reporter))
            }
            EdgeService::GetSystemStatus => Response::with(system::status(&self.reporter)),
            EdgeService::GetLogEntries(query) => {
                Response::with(logs::entries(&self.logs.recent, &query, &self.own))
            }
            EdgeService::GetLogLevel { part } => {
                Response::result(Value::string(self.logs.levels.get(part.as_deref())))
            }
            EdgeService::SetLogLevel { part, level } => {
                match self.logs.levels.set(part.as_deref(), &level) {
                    Ok(()) => {
                        let part = part.as_deref().unwrap_or("the whole");
                        tracing::info!(part, level, "the log level was changed from ThingWorx");
                        Response::ok()
                    }
                    Err(bad) => Response::error(Status::BAD_REQUEST, bad.to_string()),
                }
            }
        }
    }

    fn bound(&self) -> InfoTable {
        let names = [self.own.member.as_str(), self.own.hub.as_str(), HUB];
        table(
            [
                ("name", BaseType::String),
                ("description", BaseType::String),
            ],
            names.map(|name| [Value::string(name), Value::string("")]),
        )
    }
}

/// What the connector says that it offers under a name: nothing of its own, which lets the platform's
/// usual follow-up of a bind succeed.
fn metadata(name: &str) -> Value {
    Value::json(
        json!({
            "name": name, "description": "", "type": "Thing", "isSystemObject": false,
            "implementedShapes": [], "propertyDefinitions": {}, "serviceDefinitions": {},
            "eventDefinitions": {}
        })
        .to_string(),
    )
}
