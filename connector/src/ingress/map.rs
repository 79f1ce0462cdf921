//! Telemetry → property values, by the types that the Thing defines. Pure.

use alwayson::{BaseType, Location, Value};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::Value as Json;

use super::{decode::Telemetry, definition::Definitions};

/// One property value on its way to the platform.
#[derive(Debug, Clone, PartialEq)]
pub struct PropertyValue {
    /// Remote property name.
    pub name: String,
    /// The value, of the property's base type.
    pub value: Value,
    /// When it was so, in milliseconds since 1970.
    pub time_ms: i64,
}

/// The values of one message.
#[derive(Debug, Default)]
pub struct Mapped {
    /// What can be written.
    pub values: Vec<PropertyValue>,
    /// Keys that no remote property has. They do no harm.
    pub unknown: Vec<String>,
    /// Keys whose value does not fit the property's base type.
    pub wrong: Vec<(String, BaseType)>,
}

/// Maps the keys of a message to the remote properties of its Thing.
#[must_use]
pub fn map(telemetry: &Telemetry, definitions: &Definitions) -> Mapped {
    let mut mapped = Mapped::default();
    for (name, json) in &telemetry.fields {
        let Some(base_type) = definitions.base_type(name) else {
            mapped.unknown.push(name.clone());
            continue;
        };
        match value(base_type, json) {
            Some(value) => {
                let (name, time_ms) = (name.clone(), telemetry.time_ms);
                mapped.values.push(PropertyValue {
                    name,
                    value,
                    time_ms,
                });
            }
            None => mapped.wrong.push((name.clone(), base_type)),
        }
    }
    mapped
}

/// A JSON value as a value of `base_type`, by the table in PTC's help centre ("Examples of Updating
/// Properties", Azure IoT Hub Connector); `None` if it does not fit.
#[must_use]
pub fn value(base_type: BaseType, json: &Json) -> Option<Value> {
    match base_type {
        BaseType::String => json.as_str().map(Value::string),
        BaseType::Number => number(json).map(Value::Number),
        BaseType::Integer => whole(json)?.try_into().ok().map(Value::Integer),
        BaseType::Long => whole(json).map(Value::Long),
        BaseType::Boolean => boolean(json).map(Value::Boolean),
        BaseType::DateTime => date_time(json).map(Value::DateTime),
        BaseType::Location => location(json).map(Value::Location),
        BaseType::Json => match json {
            Json::Object(_) | Json::Array(_) => Some(Value::json(json.to_string())),
            _ => None,
        },
        _ => None,
    }
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
fn whole(json: &Json) -> Option<i64> {
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

/// Milliseconds since 1970 as number or text, or an ISO 8601 text; without an offset it is UTC.
fn date_time(json: &Json) -> Option<i64> {
    if let Some(ms) = whole(json) {
        return Some(ms);
    }
    let text = json.as_str()?.trim();
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_millisecond());
    }
    let civil: DateTime = text.parse().ok()?;
    TimeZone::UTC
        .to_timestamp(civil)
        .ok()
        .map(Timestamp::as_millisecond)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_sorted_into_values_unknown_keys_and_wrong_types() {
        let Json::Object(fields) = json!({ "n": 1, "cam::zoom": 2.5, "x": true, "on": {} }) else {
            panic!("an object")
        };
        let telemetry = Telemetry {
            thing: "dev".into(),
            fields,
            time_ms: 7,
            sequence: 1,
            bytes: 1,
        };
        let definitions = Definitions::of(&[
            ("n", BaseType::Integer),
            ("cam::zoom", BaseType::Number),
            ("on", BaseType::Boolean),
        ]);
        let mut mapped = map(&telemetry, &definitions);
        mapped.values.sort_by(|a, b| a.name.cmp(&b.name));
        let value = |name: &str, value| PropertyValue {
            name: name.into(),
            value,
            time_ms: 7,
        };
        let expected = [
            value("cam::zoom", Value::Number(2.5)),
            value("n", Value::Integer(1)),
        ];
        assert_eq!(mapped.values, expected);
        assert_eq!(mapped.unknown, ["x"]);
        assert_eq!(mapped.wrong, [("on".to_owned(), BaseType::Boolean)]);
    }

    #[test]
    fn json_becomes_the_base_type_or_is_refused() {
        let here = Location {
            longitude: 8.25,
            latitude: 47.5,
            elevation: 430.0,
        };
        let fits = [
            (BaseType::String, json!("a"), Value::string("a")),
            (BaseType::Number, json!(2.5), Value::Number(2.5)),
            (BaseType::Number, json!("24.39"), Value::Number(24.39)),
            (BaseType::Integer, json!(-2), Value::Integer(-2)),
            (BaseType::Integer, json!(3.0), Value::Integer(3)),
            (BaseType::Integer, json!("7"), Value::Integer(7)),
            (BaseType::Long, json!(i64::MAX), Value::Long(i64::MAX)),
            (BaseType::Boolean, json!(true), Value::Boolean(true)),
            (BaseType::Boolean, json!("TRUE"), Value::Boolean(true)),
            (BaseType::Boolean, json!("yes"), Value::Boolean(false)),
            (BaseType::Boolean, json!("2"), Value::Boolean(true)),
            (BaseType::Boolean, json!(0), Value::Boolean(false)),
            (
                BaseType::DateTime,
                json!(1_634_630_768_641_i64),
                Value::DateTime(1_634_630_768_641),
            ),
            (
                BaseType::DateTime,
                json!("1634630768641"),
                Value::DateTime(1_634_630_768_641),
            ),
            (
                BaseType::DateTime,
                json!("2021-10-19T08:06:08.641Z"),
                Value::DateTime(1_634_630_768_641),
            ),
            (
                BaseType::DateTime,
                json!("2021-10-19T10:06:08.641+02:00"),
                Value::DateTime(1_634_630_768_641),
            ),
            (
                BaseType::DateTime,
                json!("2021-10-19"),
                Value::DateTime(1_634_601_600_000),
            ),
            (
                BaseType::Location,
                json!("47.5, 8.25, 430"),
                Value::Location(here),
            ),
            (
                BaseType::Location,
                json!({"latitude": 47.5, "longitude": 8.25, "elevation": 430}),
                Value::Location(here),
            ),
            (
                BaseType::Json,
                json!({"a": [1]}),
                Value::json("{\"a\":[1]}"),
            ),
        ];
        for (base_type, json, expected) in fits {
            assert_eq!(
                value(base_type, &json),
                Some(expected),
                "{json} as {base_type:?}"
            );
        }
        let wrong = [
            (BaseType::String, json!(1)),
            (BaseType::Number, json!("warm")),
            (BaseType::Number, json!("NaN")),
            (BaseType::Number, json!(null)),
            (BaseType::Integer, json!(2.5)),
            (BaseType::Integer, json!(2_147_483_648_i64)),
            (BaseType::Long, json!(1e300)),
            (BaseType::Boolean, json!({})),
            (BaseType::DateTime, json!("yesterday")),
            (BaseType::Location, json!("91,0")),
            (BaseType::Location, json!({"latitude": 1})),
            (BaseType::Json, json!("text")),
        ];
        for (base_type, json) in wrong {
            assert_eq!(value(base_type, &json), None, "{json} as {base_type:?}");
        }
    }
}
