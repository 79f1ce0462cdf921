//! The end of an import, as ThingWorx is told.

use alwayson::{InfoTable, Request, Value};
use serde_json::json;

use super::{
    record::{Count, Record},
    walk::End,
};
use crate::platform::HUB;

/// PTC's event; its fields are not public, so these are ours (`docs/commands.md`).
const EVENT: &str = "AzureThingImportStatusEvent";

pub(super) fn request(record: &Record, count: &Count, end: &End) -> Request {
    let Count {
        created,
        existing,
        failed,
        refused,
    } = count;
    let number = |number: u64| Value::Integer(number.try_into().unwrap_or(i32::MAX));
    let context = json!({
        "thingTemplate": record.asked.template,
        "queryCondition": record.asked.condition,
        "refused": refused,
    });
    let data = InfoTable::one_row([
        ("importId", Value::string(record.id.as_str())),
        ("status", Value::string(end.state.as_str())),
        ("created", number(*created)),
        ("existing", number(*existing)),
        ("failed", number(*failed)),
        ("message", Value::string(end.message.as_str())),
        ("context", Value::json(context.to_string())),
    ]);
    Request::event(HUB, EVENT, data)
}
