//! What an event says → property values, by the types that the Thing defines. Pure.

use std::sync::Arc;

use alwayson::{BaseType, Value};
use serde_json::Value as Json;

use super::{
    decode::{Telemetry, Wrong},
    definition::{Definitions, Property, Unfit, mark},
    notice::{ConnectionChange, TwinChange},
    quality::Quality,
    twin::{Part, Twin},
    value::value,
};

/// One property value on its way to the platform.
#[derive(Debug, Clone, PartialEq)]
pub struct PropertyValue {
    /// Name by which the property is written.
    pub name: Arc<str>,
    /// The value, of the property's base type.
    pub value: Value,
    /// When it was so, in milliseconds since 1970.
    pub time_ms: i64,
    /// How far it can be trusted.
    pub quality: Quality,
}

/// The values of one message.
#[derive(Debug, Default)]
pub struct Mapped {
    /// What can be written: the values that belong together, in order.
    pub rows: Vec<Vec<PropertyValue>>,
    /// Keys that no remote property has, and what does not fit. Unknown keys do no harm.
    pub unfit: Unfit,
    /// What does not fit.
    pub wrong: Vec<Wrong>,
}

impl Mapped {
    /// Adds a value to the last row, or to what does not fit.
    fn put(
        &mut self,
        name: &str,
        json: &Json,
        (time_ms, quality): (i64, Quality),
        definitions: &Definitions,
    ) {
        let Some(Property { written, base_type }) = definitions.find(name) else {
            self.unfit.unknown |= mark(name);
            return;
        };
        match value(*base_type, json) {
            Ok(value) => {
                let value = PropertyValue {
                    name: written.clone(),
                    value,
                    time_ms,
                    quality,
                };
                match self.rows.last_mut() {
                    Some(row) => row.push(value),
                    None => self.rows.push(vec![value]),
                }
            }
            Err(needed) => {
                self.unfit.wrong |= mark(name);
                self.wrong.push(Wrong {
                    name: name.to_owned(),
                    wanted: base_type.name(),
                    needed,
                });
            }
        }
    }
}

/// Maps the keys of a message to the remote properties of its Thing.
#[must_use]
pub fn telemetry(telemetry: &Telemetry, definitions: &Definitions) -> Mapped {
    let mut mapped = Mapped {
        wrong: telemetry.wrong.clone(),
        ..Mapped::default()
    };
    for row in &telemetry.rows {
        mapped.rows.push(Vec::with_capacity(row.fields.len()));
        for (name, json) in &row.fields {
            mapped.put(name, json, (row.time_ms, row.quality), definitions);
        }
    }
    mapped
}

/// The remote property of a device, or of a module of it.
fn property(module: Option<&str>, name: &str) -> String {
    match module {
        Some(module) => format!("{module}::{name}"),
        None => name.to_owned(),
    }
}

/// Whether the Thing has a property for a part of this twin.
#[must_use]
pub fn takes_twin(change: &TwinChange, definitions: &Definitions) -> bool {
    Part::ALL.into_iter().any(|part| {
        let name = property(change.module.as_deref(), part.property());
        definitions.find(&name).is_some()
    })
}

/// The parts of a twin that a change has touched.
#[must_use]
pub fn twin(change: &TwinChange, twin: &Twin, parts: &[Part], definitions: &Definitions) -> Mapped {
    let mut mapped = Mapped::default();
    for part in parts {
        let name = property(change.module.as_deref(), part.property());
        let json = Json::Object(twin.part(*part).clone());
        let told = (change.time_ms, Quality::Good);
        mapped.put(&name, &json, told, definitions);
    }
    mapped
}

/// Whether a device is connected, as the property that the settings name.
#[must_use]
pub fn connection(change: &ConnectionChange, name: &str, definitions: &Definitions) -> Mapped {
    let mut mapped = Mapped::default();
    let name = property(change.module.as_deref(), name);
    let base_type = definitions.find(&name).map(|found| found.base_type);
    let json = match (base_type, change.connected) {
        (Some(BaseType::String | BaseType::Text), true) => Json::from("connected"),
        (Some(BaseType::String | BaseType::Text), false) => Json::from("disconnected"),
        (_, connected) => Json::from(connected),
    };
    let told = (change.time_ms, Quality::Good);
    mapped.put(&name, &json, told, definitions);
    mapped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::decode::Row, *};

    fn row(json: Json, time_ms: i64) -> Row {
        let Json::Object(fields) = json else {
            panic!("an object")
        };
        Row {
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
            time_ms,
            quality: Quality::Good,
        }
    }

    fn value(name: &str, value: Value, time_ms: i64) -> PropertyValue {
        PropertyValue {
            name: name.into(),
            value,
            time_ms,
            quality: Quality::Good,
        }
    }

    #[test]
    fn a_message_is_sorted_into_values_unknown_keys_and_wrong_types() {
        let from_device = Telemetry {
            rows: vec![
                row(json!({ "n": 1, "x": true }), 7),
                row(json!({ "cam::zoom": 2.5, "on": {} }), 8),
            ],
            wrong: Vec::new(),
        };
        let definitions = Definitions::of(&[
            ("n", BaseType::Integer),
            ("cam::zoom", BaseType::Number),
            ("on", BaseType::Boolean),
        ]);
        let mapped = telemetry(&from_device, &definitions);
        let rows = [
            vec![value("n", Value::Integer(1), 7)],
            vec![value("cam::zoom", Value::Number(2.5), 8)],
        ];
        assert_eq!(mapped.rows, rows);
        let unfit = Unfit {
            unknown: mark("x"),
            wrong: mark("on"),
        };
        assert_eq!(mapped.unfit, unfit);
        assert_eq!(mapped.wrong[0].name, "on");
        assert_eq!(mapped.wrong[0].wanted, "BOOLEAN");
    }

    #[test]
    fn a_connection_state_is_what_the_property_can_hold() {
        let change = |module: Option<&str>, connected| ConnectionChange {
            module: module.map(Into::into),
            connected,
            order: None,
            time_ms: 5,
        };
        let definitions = Definitions::of(&[
            ("online", BaseType::Boolean),
            ("state", BaseType::String),
            ("cam::online", BaseType::Boolean),
            ("at", BaseType::DateTime),
        ]);
        for (module, name, connected, written, expected) in [
            (None, "online", true, "online", Value::Boolean(true)),
            (None, "state", false, "state", Value::string("disconnected")),
            (
                Some("cam"),
                "online",
                false,
                "cam::online",
                Value::Boolean(false),
            ),
        ] {
            let mapped = connection(&change(module, connected), name, &definitions);
            assert_eq!(mapped.rows, [vec![value(written, expected, 5)]]);
        }
        assert_eq!(
            connection(&change(None, true), "ghost", &definitions)
                .unfit
                .unknown,
            mark("ghost")
        );
        assert_eq!(
            connection(&change(None, true), "at", &definitions)
                .wrong
                .len(),
            1
        );
    }
}
