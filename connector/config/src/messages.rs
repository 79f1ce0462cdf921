//! Settings of how messages of the hub become property values.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How messages of the hub become property values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    /// Which time a value gets on the platform. Default: `Enqueued`, when the hub took the message: no
    /// clock of a device has to be right, and a message that is read again gets the same time.
    #[serde(default)]
    pub time: ValueTime,
    /// Name of the field or the application property that holds the time, with `time: Body` or
    /// `time: Property`. Its value is milliseconds since 1970 or an ISO 8601 text. Such a field is no
    /// property value itself; where it is missing or no time, the enqueued time is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub time_field: Option<String>,
    /// Name of the field of a body that says how far the values beside it can be trusted: GOOD, BAD, UNKNOWN,
    /// `OUT_OF_RANGE` or `UNVERIFIED_SOURCE`, in any case. Such a field is no property value itself. Default:
    /// all values are GOOD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub quality_field: Option<String>,
    /// Remote property of a device's Thing that tells whether the device is connected: BOOLEAN, or
    /// STRING with `connected` or `disconnected`; on a module `module::<name>`. The hub must route its
    /// device connection state events to the built-in endpoint. Default: such events are not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub connection_property: Option<String>,
    /// Program in jq that makes of a telemetry body what is written: an object of remote property names and
    /// values, several of them, or an array of such objects; nothing (`empty`) is no error. Its input is the
    /// body; `$device`, `$module` (null for a device itself), `$properties` (the message's application
    /// properties) and `$enqueued` (when the hub took the message, in milliseconds since 1970) stand beside
    /// it. `timeField` with `time: Body` is looked for in what the program gives. A message for which it
    /// fails, takes more than a quarter of a second of processor time, some 64 MiB of memory or gives more
    /// than 256 KiB is passed and reported. Without regular expressions, dates and the world around (`env`,
    /// `now`, `input`). Default: bodies are objects of property names and values already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192))]
    pub mapping: Option<String>,
}

/// Which time a value gets on the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ValueTime {
    /// When the hub took the message.
    #[default]
    Enqueued,
    /// What the field `timeField` of the body says.
    Body,
    /// What the application property `timeField` of the message says.
    Property,
    /// When the connector reads the message, by its own clock.
    Processing,
}

impl Messages {
    /// What the schema alone cannot say.
    ///
    /// # Errors
    /// The field at fault, below `messages`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let at = |field: &str, what: &str| Err((field.to_owned(), what.to_owned()));
        let named = |name: &Option<String>| name.as_ref().map(|name| !name.trim().is_empty());
        match (self.time, named(&self.time_field)) {
            (_, Some(false)) => return at("timeField", "is empty; give a name or leave it out"),
            (ValueTime::Body | ValueTime::Property, None) => {
                return at("timeField", "is missing; time: Body and Property need it");
            }
            (ValueTime::Enqueued | ValueTime::Processing, Some(true)) => {
                return at(
                    "timeField",
                    "is used with time: Body or Property only; set time or leave it out",
                );
            }
            _ => {}
        }
        if named(&self.quality_field) == Some(false) {
            return at("qualityField", "is empty; give a name or leave it out");
        }
        if self.quality_field.is_some() && self.quality_field == self.time_field {
            return at("qualityField", "must not be the timeField as well");
        }
        if named(&self.connection_property) == Some(false) {
            return at(
                "connectionProperty",
                "is empty; give a name or leave it out",
            );
        }
        if let Some(program) = &self.mapping {
            mapping::check(program).map_err(|error| ("mapping".to_owned(), error.to_string()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_field_goes_with_body_and_property_only() {
        let check = |time, field: Option<&str>| {
            Messages {
                time,
                time_field: field.map(str::to_owned),
                ..Messages::default()
            }
            .check()
            .map_err(|(field, _)| field)
        };
        let fault = Err("timeField".to_owned());
        for time in [ValueTime::Enqueued, ValueTime::Processing] {
            assert_eq!(check(time, None), Ok(()));
            assert_eq!(check(time, Some("ts")), fault);
        }
        for time in [ValueTime::Body, ValueTime::Property] {
            assert_eq!(check(time, Some("ts")), Ok(()));
            assert_eq!(check(time, None), fault);
            assert_eq!(check(time, Some(" ")), fault);
        }
    }
    #[test]
    fn a_mapping_is_compiled_and_its_fault_has_a_place() {
        let check = |program: &str| {
            Messages {
                mapping: Some(program.to_owned()),
                ..Messages::default()
            }
            .check()
        };
        assert_eq!(check(".values | map({(.name): .value}) | add"), Ok(()));
        let (field, what) = check("{a: .b |\n  frobnicate}").unwrap_err();
        assert_eq!(field, "mapping");
        assert_eq!(what, "line 2, column 3: no filter frobnicate/0");
        for secret in ["env", "$ENV.PATH"] {
            assert!(check(secret).is_err(), "{secret}");
        }
    }
}
