//! Device twins: two documents with versions, changed by merging.
//!
//! Source: Microsoft Learn, "Understand and use device twins in IoT Hub". Per-property metadata is
//! not kept.

use serde_json::{Map, Value, json};

/// Largest document, desired or reported, as JSON without blanks (same source).
pub const MAX_HALF: usize = 32 * 1024;

/// One half of a twin.
#[derive(Debug, Clone, PartialEq)]
pub struct Half {
    properties: Map<String, Value>,
    version: u64,
}

/// A twin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Twin {
    /// Tags; only the service side sees them.
    pub tags: Map<String, Value>,
    /// What the service wants.
    pub desired: Half,
    /// What the device says.
    pub reported: Half,
    /// Counts every change; the twin's etag.
    pub revision: u64,
}

/// Why a patch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPatch {
    /// It must be a JSON object.
    #[error("twin properties must be a JSON object")]
    NotAnObject,
    /// The document would have more than [`MAX_HALF`] bytes.
    #[error("twin properties have at most {MAX_HALF} bytes")]
    TooLarge,
}

impl Default for Half {
    fn default() -> Self {
        // IoT Hub's first version is 1.
        Self {
            properties: Map::new(),
            version: 1,
        }
    }
}

impl Half {
    /// Merges a patch (null removes); gives the new version.
    ///
    /// # Errors
    /// [`BadPatch`]; then nothing has changed.
    pub fn patch(&mut self, patch: &Value) -> Result<u64, BadPatch> {
        let patch = patch.as_object().ok_or(BadPatch::NotAnObject)?;
        let mut properties = self.properties.clone();
        merge(&mut properties, patch);
        let merged = Value::Object(properties);
        if merged.to_string().len() > MAX_HALF {
            return Err(BadPatch::TooLarge);
        }
        if let Value::Object(properties) = merged {
            self.properties = properties;
        }
        self.version += 1;
        Ok(self.version)
    }

    /// Counts the changes of this half.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// With `$version`, as every reader gets it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut properties = self.properties.clone();
        properties.insert("$version".into(), self.version.into());
        Value::Object(properties)
    }
}

impl Twin {
    /// What the device reads.
    #[must_use]
    pub fn for_device(&self) -> Value {
        json!({"desired": self.desired.to_json(), "reported": self.reported.to_json()})
    }
}

/// Merges `patch` into `target`: null removes, objects merge, all else replaces.
pub fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        // `$version` and `$metadata` are the hub's; clients echo them.
        if key.starts_with('$') {
            continue;
        }
        match value {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(inner) => {
                let slot = target.entry(key.clone()).or_insert_with(|| json!({}));
                if !slot.is_object() {
                    *slot = json!({});
                }
                if let Some(object) = slot.as_object_mut() {
                    merge(object, inner);
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_merge_and_count() {
        let mut half = Half::default();
        half.patch(&json!({"a": {"b": 1, "c": 2}, "d": 3})).unwrap();
        let version =
            half.patch(&json!({"a": {"b": null, "e": [1]}, "d": {"x": 1}, "$version": 9}));
        assert_eq!(version, Ok(3));
        assert_eq!(
            half.to_json(),
            json!({"a": {"c": 2, "e": [1]}, "d": {"x": 1}, "$version": 3})
        );
        assert_eq!(half.patch(&json!([])), Err(BadPatch::NotAnObject));
    }

    #[test]
    fn a_document_does_not_grow_without_bound() {
        let mut half = Half::default();
        half.patch(&json!({"a": "x".repeat(MAX_HALF / 2)})).unwrap();
        let before = half.clone();
        let refused = half.patch(&json!({"b": "x".repeat(MAX_HALF / 2)}));
        assert_eq!(refused, Err(BadPatch::TooLarge));
        assert_eq!(half, before);
    }
}
