//! Services that the platform calls on whatever is bound, and on the connector's own Thing.
//!
//! The latter are those of the Thing Template `ConnectionServer`, all of which are remote.

use alwayson::Request;

use super::{Refused, params::Inputs};

/// A service that the connector answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EdgeService {
    /// What is offered under this name.
    GetMetadata,
    /// The subscriptions have changed.
    NotifyPropertyUpdate,
    /// The subscriptions are pushed; present values are asked for.
    SynchronizeModelState,
    /// What the connector has bound.
    GetBoundEntities,
    /// What it measures.
    GetPerformanceMetrics,
    /// What it is and where it runs.
    GetSystemInformation,
    /// How its parts fare.
    GetSystemStatus,
    /// Lines of its log.
    GetLogEntries(LogQuery),
    /// How much of a part it logs.
    GetLogLevel {
        /// The part; the whole without.
        part: Option<String>,
    },
    /// How much of a part it is to log.
    SetLogLevel {
        /// The part; the whole without.
        part: Option<String>,
        /// The level.
        level: String,
    },
}

/// Which lines of the log are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// The oldest first.
    pub oldest_first: bool,
    /// Most lines.
    pub max_items: Option<u64>,
    /// Not before, in milliseconds since 1970.
    pub start_ms: Option<i64>,
    /// Not after, in milliseconds since 1970.
    pub end_ms: Option<i64>,
}

/// Reads a call of a service; `None` if it is none of these. `own` is the connector's own Thing.
pub(super) fn service(request: &Request, own: bool) -> Refused<Option<EdgeService>> {
    let inputs = Inputs::new(&request.target, request.params.as_ref());
    let part = || inputs.text("subLogger");
    Ok(Some(match request.target.as_str() {
        "GetMetadata" => EdgeService::GetMetadata,
        "NotifyPropertyUpdate" => EdgeService::NotifyPropertyUpdate,
        "SynchronizeModelState" => EdgeService::SynchronizeModelState,
        "GetBoundEntities" => EdgeService::GetBoundEntities,
        // A device may have methods of these names.
        _ if !own => return Ok(None),
        "GetPerformanceMetrics" => EdgeService::GetPerformanceMetrics,
        "GetSystemInformation" => EdgeService::GetSystemInformation,
        "GetSystemStatus" => EdgeService::GetSystemStatus,
        "GetLogEntries" => EdgeService::GetLogEntries(LogQuery {
            oldest_first: matches!(
                inputs.value("oldestFirst"),
                Some(alwayson::Value::Boolean(true))
            ),
            max_items: inputs.number("maxItems")?,
            start_ms: inputs.time("startDate")?,
            end_ms: inputs.time("endDate")?,
        }),
        "GetLogLevel" => EdgeService::GetLogLevel { part: part()? },
        "SetLogLevel" => EdgeService::SetLogLevel {
            part: part()?,
            level: inputs.required("level")?,
        },
        _ => return Ok(None),
    }))
}
