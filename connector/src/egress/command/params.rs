//! Parameters of a request.

use alwayson::{InfoTable, Value, json::to_json};
use serde_json::{Map, Value as Json};

use super::{Refused, bad};

/// Parameters as an object. Untyped JSON parameters travel in a field of their own.
pub(super) fn object(params: Option<&InfoTable>) -> Map<String, Json> {
    let Some(params) = params else {
        return Map::new();
    };
    let mut fields = first_row(params);
    if let (1, Some(Json::Object(content))) = (fields.len(), fields.get("_content_")) {
        fields = content.clone();
    }
    fields
}

fn first_row(table: &InfoTable) -> Map<String, Json> {
    rows(table).next().unwrap_or_default()
}

/// Rows of a table as objects.
fn rows(table: &InfoTable) -> impl Iterator<Item = Map<String, Json>> {
    let names: Vec<String> = table.fields().map(|field| field.name).collect();
    table.rows().map(move |row| {
        let cells = names.iter().cloned().zip(row.iter().map(to_json));
        cells.collect()
    })
}

/// A table as the body of a message: its row as an object, several rows as an array of them.
pub(super) fn body(table: &InfoTable) -> Option<Json> {
    let mut rows: Vec<Json> = rows(table).map(Json::Object).collect();
    match rows.len() {
        0 => None,
        1 => rows.pop(),
        _ => Some(Json::Array(rows)),
    }
}

/// The inputs of a service, by name.
pub(super) struct Inputs<'a> {
    service: &'a str,
    params: Option<&'a InfoTable>,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(service: &'a str, params: Option<&'a InfoTable>) -> Self {
        Self { service, params }
    }

    /// An input as it came; absent ones and NOTHING are `None`.
    pub(super) fn value(&self, name: &str) -> Option<Value> {
        match self.params?.get(0, name)? {
            Value::Nothing => None,
            Value::Variant(inner) => Some(*inner),
            value => Some(value),
        }
    }

    /// A text that may be missing; an empty one is missing.
    pub(super) fn text(&self, name: &str) -> Refused<Option<String>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Text(_, text)) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
            Some(other) => self.wrong(name, "a text", other.base_type().name()),
        }
    }

    /// A text that must be there.
    pub(super) fn required(&self, name: &str) -> Refused<String> {
        self.text(name)?.map_or_else(
            || bad(format!("{}: input {name} is missing", self.service)),
            Ok,
        )
    }

    /// A whole number that may be missing.
    pub(super) fn number(&self, name: &str) -> Refused<Option<u64>> {
        // A NUMBER is a double on the wire.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = |number: f64| (number >= 0.0 && number.fract() == 0.0).then_some(number as u64);
        let number = match self.value(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => whole(number),
            Some(Value::Integer(number)) => u64::try_from(number).ok(),
            Some(Value::Long(number)) => u64::try_from(number).ok(),
            Some(other) => return self.wrong(name, "a number", other.base_type().name()),
        };
        number.map_or_else(
            || self.wrong(name, "a whole number", "something else"),
            |n| Ok(Some(n)),
        )
    }

    /// A time that may be missing, in milliseconds since 1970.
    pub(super) fn time(&self, name: &str) -> Refused<Option<i64>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::DateTime(ms)) => Ok(Some(ms)),
            Some(other) => self.wrong(name, "a DATETIME", other.base_type().name()),
        }
    }

    /// JSON that may be missing: of base type JSON, or as text.
    pub(super) fn json(&self, name: &str) -> Refused<Option<Json>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let Value::Text(_, text) = &value else {
            return Ok(Some(to_json(&value)));
        };
        match serde_json::from_str(text) {
            Ok(json) => Ok(Some(json)),
            Err(error) => bad(format!(
                "{}: input {name} is no JSON: {error}",
                self.service
            )),
        }
    }

    /// A table that must be there.
    pub(super) fn table(&self, name: &str) -> Refused<InfoTable> {
        match self.value(name) {
            Some(Value::InfoTable(table)) => Ok(table),
            None => bad(format!("{}: input {name} is missing", self.service)),
            Some(other) => self.wrong(name, "an INFOTABLE", other.base_type().name()),
        }
    }

    fn wrong<T>(&self, name: &str, wanted: &str, is: &str) -> Refused<T> {
        let service = self.service;
        bad(format!(
            "{service}: input {name} must be {wanted}, not {is}"
        ))
    }
}
