//! Lines of the log as the platform shows them.

use alwayson::{BaseType, InfoTable, Value};

use super::super::{
    command::{LogQuery, OwnNames},
    table::table,
};
use crate::log::{Line, Recent};

/// Lines of an answer where the caller does not say.
const DEFAULT: usize = 100;

/// The lines that are asked for.
pub(super) fn entries(recent: &Recent, query: &LogQuery, own: &OwnNames) -> InfoTable {
    let most = query.max_items.and_then(|most| usize::try_from(most).ok());
    let wanted = |line: &Line| {
        query.start_ms.is_none_or(|start| line.time_ms >= start)
            && query.end_ms.is_none_or(|end| line.time_ms <= end)
    };
    // Those of the end are kept when there are too many.
    let mut lines: Vec<Line> = recent.all().into_iter().filter(wanted).collect();
    let superfluous = lines.len().saturating_sub(most.unwrap_or(DEFAULT));
    lines.drain(..superfluous);
    if !query.oldest_first {
        lines.reverse();
    }
    let text = |text: &str| Value::string(text);
    let rows = lines.into_iter().map(|line| {
        [
            Value::DateTime(line.time_ms),
            text(line.level.as_str()),
            text(line.origin),
            text(own.member.as_str()),
            text(""),
            text(""),
            text(""),
            text(""),
            Value::string(line.content),
        ]
    });
    table(
        [
            ("timestamp", BaseType::DateTime),
            ("level", BaseType::String),
            ("origin", BaseType::String),
            ("instance", BaseType::String),
            ("user", BaseType::String),
            ("session", BaseType::String),
            ("thread", BaseType::String),
            ("platformId", BaseType::String),
            ("content", BaseType::String),
        ],
        rows,
    )
}
