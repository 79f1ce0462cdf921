//! JSON → value of a base type. Pure.
//!
//! The first half of the table is PTC's ("Examples of Updating Properties", Azure IoT Hub Connector);
//! the rest of that page is not public, so what follows is how ThingWorx's REST interface writes the
//! same base types.

use alwayson::{BaseType, Field, InfoTable, Location, Value};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value as Json};

use super::date_time::date_time;

/// Infotables within infotables; the platform takes 16, and no model has more than two.
const MAX_TABLES: usize = 8;
/// Most fields of an infotable: a row counts its cells in 16 bits.
const MAX_FIELDS: usize = u16::MAX as usize;

/// A JSON value as a value of `base_type`.
///
/// # Errors
/// What the base type needs, in words, if it does not fit.
pub fn value(base_type: BaseType, json: &Json) -> Result<Value, &'static str> {
    nested(base_type, json, 0)
}

fn nested(base_type: BaseType, json: &Json, tables: usize) -> Result<Value, &'static str> {
    let (read, needed) = match base_type {
        BaseType::Number => (number(json).map(Value::Number), "a number"),
        BaseType::Integer => (
            whole(json)
                .and_then(|whole| whole.try_into().ok())
                .map(Value::Integer),
            "a whole number of 32 bits",
        ),
        BaseType::Long => (whole(json).map(Value::Long), "a whole number of 64 bits"),
        BaseType::Boolean => (
            boolean(json).map(Value::Boolean),
            "true, false, a number or a text",
        ),
        BaseType::DateTime => (
            date_time(json).map(Value::DateTime),
            "milliseconds since 1970 or an ISO 8601 text",
        ),
        BaseType::Location => (
            location(json).map(Value::Location),
            "latitude (±90), longitude (±180) and elevation as object or text",
        ),
        BaseType::Json => (structure(json), "an object or an array"),
        BaseType::InfoTable => (
            table(json, tables).map(Value::InfoTable),
            "an object of dataShape.fieldDefinitions and rows that fit them",
        ),
        BaseType::Query => (query(json), "an object, as itself or as text"),
        BaseType::Tags => (tags(json), "Vocabulary:Term;… or a list of tags"),
        BaseType::Image => (base64(json).map(Value::Image), "a text of base64"),
        BaseType::Blob => (base64(json).map(Value::Blob), "a text of base64"),
        BaseType::TimeSpan => (
            time_span(json),
            "an object of startDate, endDate and period",
        ),
        BaseType::Vec2 => (vector(json).map(Value::Vec2), "x and y"),
        BaseType::Vec3 => (vector(json).map(Value::Vec3), "x, y and z"),
        BaseType::Vec4 => (vector(json).map(Value::Vec4), "x, y, z and w"),
        BaseType::ThingCode => (thing_code(json), "domain:instance"),
        BaseType::Variant => (variant(json), "a value that is not null"),
        BaseType::Password => (
            None,
            "nothing from a device: telemetry is no way for a secret",
        ),
        BaseType::Nothing => (None, "nothing: the base type has no values"),
        // Whatever is a text on the wire: TEXT, HTML, XML, HYPERLINK, IMAGELINK, GUID, SCHEDULE and all
        // names of entities.
        text => (
            json.as_str().map(|json| Value::Text(text, json.to_owned())),
            "a text",
        ),
    };
    read.ok_or(needed)
}

fn number(json: &Json) -> Option<f64> {
    let number = match json {
        Json::Number(number) => number.as_f64()?,
        Json::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// A whole number: `3`, `3.0` or `"3"`; a fraction does not fit, since cutting it would lie.
#[must_use]
pub fn whole(json: &Json) -> Option<i64> {
    match json {
        Json::Number(number) if number.is_i64() => return number.as_i64(),
        Json::String(text) => {
            if let Ok(whole) = text.trim().parse() {
                return Some(whole);
            }
        }
        _ => {}
    }
    let number = number(json)?;
    // Beyond 2^53 a double no longer tells neighbouring integers apart.
    let exact = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "checked to be whole and small"
    )]
    exact.then_some(number as i64)
}

fn boolean(json: &Json) -> Option<bool> {
    match json {
        Json::Bool(flag) => Some(*flag),
        Json::Number(number) => Some(number.as_f64()? != 0.0),
        Json::String(text) => Some(match text.trim().parse::<f64>() {
            Ok(number) => number != 0.0,
            Err(_) => text.trim().eq_ignore_ascii_case("true"),
        }),
        _ => None,
    }
}

/// `{"latitude":…,"longitude":…,"elevation":…}` or `"lat,long[,elev]"`.
fn location(json: &Json) -> Option<Location> {
    let (latitude, longitude, elevation) = match json {
        Json::Object(fields) => (
            number(fields.get("latitude")?)?,
            number(fields.get("longitude")?)?,
            fields.get("elevation").map_or(Some(0.0), number)?,
        ),
        Json::String(text) => {
            let parts: Vec<f64> = text
                .split(',')
                .map(|part| part.trim().parse().ok())
                .collect::<Option<_>>()?;
            match parts[..] {
                [latitude, longitude] => (latitude, longitude, 0.0),
                [latitude, longitude, elevation] => (latitude, longitude, elevation),
                _ => return None,
            }
        }
        _ => return None,
    };
    let on_earth = latitude.abs() <= 90.0 && longitude.abs() <= 180.0 && elevation.is_finite();
    on_earth.then_some(Location {
        longitude,
        latitude,
        elevation,
    })
}

fn structure(json: &Json) -> Option<Value> {
    match json {
        Json::Object(_) | Json::Array(_) => Some(Value::json(json.to_string())),
        _ => None,
    }
}

/// A query is a JSON object, which the platform keeps as text.
fn query(json: &Json) -> Option<Value> {
    let text = match json {
        Json::Object(_) => json.to_string(),
        Json::String(text) => {
            serde_json::from_str::<Map<String, Json>>(text).ok()?;
            text.clone()
        }
        _ => return None,
    };
    Some(Value::Text(BaseType::Query, text))
}

/// `"Vocabulary:Term;Vocabulary:Term"`, or `[{"vocabulary":…,"vocabularyTerm":…}]`.
fn tags(json: &Json) -> Option<Value> {
    let text = match json {
        Json::String(text) => text.clone(),
        Json::Array(tags) => {
            let tag = |tag: &Json| {
                let part = |name: &str| tag.get(name)?.as_str();
                Some(format!(
                    "{}:{}",
                    part("vocabulary")?,
                    part("vocabularyTerm")?
                ))
            };
            tags.iter().map(tag).collect::<Option<Vec<_>>>()?.join(";")
        }
        _ => return None,
    };
    let well_formed = text
        .split(';')
        .all(|tag| tag.is_empty() || tag.contains(':'));
    well_formed.then_some(Value::Text(BaseType::Tags, text))
}

fn base64(json: &Json) -> Option<Vec<u8>> {
    STANDARD.decode(json.as_str()?.trim()).ok()
}

/// `{"startDate":…,"endDate":…,"period":…}`; a date that is missing or −1 is none.
fn time_span(json: &Json) -> Option<Value> {
    let fields = json.as_object()?;
    let at = |name: &str| match fields.get(name) {
        None | Some(Json::Null) => Some(-1),
        Some(date) => date_time(date),
    };
    let period = match fields.get("period") {
        None | Some(Json::Null) => String::new(),
        Some(period) => period.as_str()?.to_owned(),
    };
    let (start, end) = (at("startDate")?, at("endDate")?);
    let says_something = start >= 0 || end >= 0 || !period.is_empty();
    says_something.then_some(Value::TimeSpan { start, end, period })
}

/// `{"x":…,"y":…,…}` or `[…]`.
fn vector<const N: usize>(json: &Json) -> Option<[f64; N]> {
    let mut parts = [0.0; N];
    let names = ["x", "y", "z", "w"];
    match json {
        Json::Array(list) if list.len() != N => return None,
        Json::Array(_) | Json::Object(_) => {}
        _ => return None,
    }
    for (index, part) in parts.iter_mut().enumerate() {
        let cell = match json {
            Json::Array(list) => list.get(index),
            fields => fields.get(*names.get(index)?),
        };
        *part = number(cell?)?;
    }
    Some(parts)
}

/// `"domain:instance"`, or `{"domainId":…,"instanceId":…}`.
fn thing_code(json: &Json) -> Option<Value> {
    let (domain, instance) = match json {
        Json::String(text) => {
            let (domain, instance) = text.split_once(':')?;
            (domain.trim().parse().ok()?, instance.trim().parse().ok()?)
        }
        Json::Object(fields) => (
            whole(fields.get("domainId")?)?,
            whole(fields.get("instanceId")?)?,
        ),
        _ => return None,
    };
    Some(Value::ThingCode {
        domain: i32::try_from(domain).ok()?,
        instance,
    })
}

/// What a VARIANT holds, by the kind of JSON. Not in a [`Value::Variant`] of its own: where it is put,
/// one stands around it already, and they do not nest.
fn variant(json: &Json) -> Option<Value> {
    match json {
        Json::Null => None,
        Json::Bool(flag) => Some(Value::Boolean(*flag)),
        Json::Number(_) => number(json).map(Value::Number),
        Json::String(text) => Some(Value::string(text.as_str())),
        Json::Array(_) | Json::Object(_) => structure(json),
    }
}

/// `{"dataShape":{"fieldDefinitions":{name:{"baseType":…,"ordinal":…}}},"rows":[{…}]}`. A cell that is
/// missing or null is empty; one that a field does not name is an error, since it would be lost.
fn table(json: &Json, tables: usize) -> Option<InfoTable> {
    if tables >= MAX_TABLES {
        return None;
    }
    let definitions = json
        .pointer("/dataShape/fieldDefinitions")?
        .as_object()
        .filter(|definitions| definitions.len() <= MAX_FIELDS)?;
    let rows = json.get("rows")?.as_array()?;
    let mut fields = definitions
        .iter()
        .map(|(name, definition)| {
            let base_type: BaseType = definition.get("baseType")?.as_str()?.parse().ok()?;
            let ordinal = definition.get("ordinal").map_or(Some(0), whole)?;
            Some((ordinal, Field::new(name.as_str(), base_type)))
        })
        .collect::<Option<Vec<(i64, Field)>>>()?;
    // Stable: fields without an ordinal keep the order in which they stand.
    fields.sort_by_key(|(ordinal, _)| *ordinal);
    let fields: Vec<Field> = fields.into_iter().map(|(_, field)| field).collect();
    let mut table = InfoTable::new(fields.clone());
    for row in rows {
        let row = row.as_object()?;
        if row.keys().any(|name| !definitions.contains_key(name)) {
            return None;
        }
        let cells = fields.iter().map(|field| match row.get(&field.name) {
            None | Some(Json::Null) => Some(Value::Nothing),
            Some(cell) => {
                let value = nested(field.base_type, cell, tables + 1).ok()?;
                Some(match field.base_type {
                    BaseType::Variant => Value::Variant(Box::new(value)),
                    _ => value,
                })
            }
        });
        table.push(&cells.collect::<Option<Vec<_>>>()?).ok()?;
    }
    Some(table)
}

#[cfg(test)]
mod tests;
