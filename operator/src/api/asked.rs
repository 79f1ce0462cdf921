//! A field that tells null from absent.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a user said of an optional field. Null is kept apart from absent, because somebody who writes
/// null means to say something; use it with `#[serde(default, skip_serializing_if =
/// "Asked::is_absent")]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Asked<T> {
    /// The field is not there.
    #[default]
    Absent,
    /// The field is there and null.
    Null,
    /// The field has a value.
    Given(T),
}

impl<T> Asked<T> {
    /// Whether the field is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<T: Serialize> Serialize for Asked<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Null => serializer.serialize_none(),
            Self::Given(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Asked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        #[serde(default, skip_serializing_if = "Asked::is_absent")]
        field: Asked<String>,
    }

    #[test]
    fn null_and_absent_survive_a_round_trip() {
        let cases = [
            ("{}", Asked::Absent),
            (r#"{"field":null}"#, Asked::Null),
            (r#"{"field":"x"}"#, Asked::Given("x".to_owned())),
        ];
        for (text, field) in cases {
            let holder: Holder = serde_json::from_str(text).unwrap();
            assert_eq!(holder, Holder { field });
            assert_eq!(serde_json::to_string(&holder).unwrap(), text);
        }
    }
}
