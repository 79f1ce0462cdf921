//! Tables of answers.

use alwayson::{BaseType, Field, InfoTable, Value};
use jiff::Timestamp;

/// A table of these fields.
pub(super) fn table<const N: usize>(
    fields: [(&str, BaseType); N],
    rows: impl IntoIterator<Item = [Value; N]>,
) -> InfoTable {
    let mut table = InfoTable::new(fields.map(|(name, base_type)| Field::new(name, base_type)));
    for row in rows {
        // As many cells as fields, each of its field's type or nothing.
        let _ = table.push(&row);
    }
    table
}

/// A time as a cell; nothing if there is none.
pub(super) fn time(time: Option<Timestamp>) -> Value {
    time.map_or(Value::Nothing, |time| {
        Value::DateTime(time.as_millisecond())
    })
}
