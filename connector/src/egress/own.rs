//! What the connector answers for the names that it has bound.

use alwayson::{BaseType, Field, InfoTable, Response, Value};

use super::command::{EdgeService, OwnNames, metadata};

/// Answers a service of the edge's own.
#[must_use]
pub fn answer(service: EdgeService, entity: &str, own: &OwnNames) -> Response {
    match service {
        EdgeService::GetMetadata => Response::result(metadata(entity)),
        EdgeService::NotifyPropertyUpdate => Response::ok(),
        // No values of our own: a device's are written when it reports them.
        EdgeService::SynchronizeModelState => Response::with(InfoTable::new([
            Field::new("name", BaseType::String),
            Field::new("time", BaseType::DateTime),
            Field::new("value", BaseType::Variant),
            Field::new("quality", BaseType::String),
        ])),
        EdgeService::GetBoundEntities => {
            let mut table = InfoTable::new([
                Field::new("name", BaseType::String),
                Field::new("description", BaseType::String),
            ]);
            for name in [own.member.as_str(), own.hub.as_str()] {
                // Two cells for two fields always fit.
                let _ = table.push(&[Value::string(name), Value::string("")]);
            }
            Response::with(table)
        }
    }
}
