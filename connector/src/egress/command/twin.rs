//! The twin's properties of a Thing: `twinDesired`, `twinReported`, `twinTags`, and `module::…` of each.

use alwayson::Status;
use serde_json::{Map, Value as Json};

use super::{Refused, bad, refuse};

/// A device, or a module of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwinOf {
    /// The device.
    pub device: String,
    /// A module of it.
    pub module: Option<String>,
}

/// A part of a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TwinPart {
    /// What the solution wants of the device.
    Desired,
    /// What the device says of itself.
    Reported,
    /// What the solution keeps about the device.
    Tags,
}

impl TwinPart {
    /// The part that a property stands for.
    pub(super) fn named(property: &str) -> Option<Self> {
        match property {
            "twinDesired" => Some(Self::Desired),
            "twinReported" => Some(Self::Reported),
            "twinTags" => Some(Self::Tags),
            _ => None,
        }
    }
}

/// A change of a twin: keys are merged, null removes one.
#[derive(Debug, Clone, PartialEq)]
pub struct TwinChange {
    /// Whose.
    pub twin: TwinOf,
    /// What of it; never what the device reports.
    pub part: TwinPart,
    /// What is merged.
    pub patch: Map<String, Json>,
    /// The twin must still be the one that was read, if the caller says which that was.
    pub etag: Option<String>,
}

/// The version of a twin, among the keys of what is read and may come back with what is written.
pub(crate) const ETAG: &str = "$etag";

impl TwinChange {
    /// A value that was written to one of the properties.
    pub(super) fn read(twin: TwinOf, part: TwinPart, property: &str, value: Json) -> Refused<Self> {
        if part == TwinPart::Reported {
            let what = format!(
                "property {property} is what the device reports of itself and cannot be written; write \
                 twinDesired, which the device gets"
            );
            return refuse(Status::METHOD_NOT_ALLOWED, what);
        }
        let parsed = match value {
            // A property of base type STRING holds it as text.
            Json::String(text) => serde_json::from_str(&text).unwrap_or(Json::Null),
            other => other,
        };
        let Json::Object(mut patch) = parsed else {
            return bad(format!(
                "property {property} needs a JSON object of the keys to be changed; null removes a key"
            ));
        };
        let etag = patch.get(ETAG).and_then(Json::as_str).map(str::to_owned);
        // `$version` and `$metadata` are the hub's own: whoever writes what was read sends them back.
        patch.retain(|key, _| !key.starts_with('$'));
        if patch.is_empty() {
            return bad(format!("property {property} holds no key to be changed"));
        }
        Ok(Self {
            twin,
            part,
            patch,
            etag,
        })
    }
}
