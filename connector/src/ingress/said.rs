//! What a body says, read without a map: telemetry only needs its fields in their order.

use std::fmt;

use compact_str::CompactString;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value as Json;

/// Names and values in the order of the body. A name that comes twice stands here twice.
pub type Fields = Vec<(CompactString, Json)>;

/// The body of a telemetry message.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// One object.
    One(Fields),
    /// An array: its objects, and `None` for what is none.
    Many(Vec<Option<Fields>>),
    /// Something else, by its kind.
    Other(&'static str),
}

/// An element of an array.
struct Element(Option<Fields>);

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Body)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match deserializer.deserialize_any(Body)? {
            Said::One(fields) => Some(fields),
            Said::Many(_) | Said::Other(_) => None,
        }))
    }
}

struct Body;

impl<'de> Visitor<'de> for Body {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        // A handful of properties; more grow it.
        let mut fields = Vec::with_capacity(8);
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Said::One(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Said, A::Error> {
        let mut elements = Vec::new();
        while let Some(Element(fields)) = seq.next_element()? {
            elements.push(fields);
        }
        Ok(Said::Many(elements))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Said, E> {
        Ok(Said::Other("boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Said, E> {
        Ok(Said::Other("number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Said, E> {
        Ok(Said::Other("number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Said, E> {
        Ok(Said::Other("number"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Said, E> {
        Ok(Said::Other("string"))
    }

    fn visit_unit<E>(self) -> Result<Said, E> {
        Ok(Said::Other("null"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(text: &str) -> Result<Said, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn fields_keep_their_order_and_nothing_is_left_out() {
        let field = |name: &str, value: Json| (CompactString::from(name), value);
        assert_eq!(
            said(r#"{"b":1,"a":{"x":[2]},"b":null}"#).unwrap(),
            Said::One(vec![
                field("b", json!(1)),
                field("a", json!({ "x": [2] })),
                field("b", Json::Null)
            ])
        );
        assert_eq!(
            said(r#"[{"a":1},2,[{"a":3}],{}]"#).unwrap(),
            Said::Many(vec![
                Some(vec![field("a", json!(1))]),
                None,
                None,
                Some(vec![])
            ])
        );
        for (text, kind) in [
            ("null", "null"),
            ("true", "boolean"),
            ("-1", "number"),
            ("1.5", "number"),
            ("\"x\"", "string"),
        ] {
            assert_eq!(said(text).unwrap(), Said::Other(kind));
        }
        assert!(said("{} x").is_err(), "something behind it");
    }
}
