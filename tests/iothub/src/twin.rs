//! Device twins: two documents with versions, changed by merging.
//!
//! Source of the limits: Microsoft Learn, "Understand and use device twins in IoT Hub" (tags and
//! properties format, size). Per-property metadata is not kept.

use serde_json::{Map, Value, json};

use crate::refusal::Refusal;

/// Largest document, desired or reported, as JSON without blanks (same source).
pub const MAX_HALF: usize = 32 * 1024;
/// Largest tags, likewise.
pub const MAX_TAGS: usize = 8 * 1024;
/// Longest name of a property, and longest text in one.
const MAX_KEY: usize = 1024;
const MAX_TEXT: usize = 4 * 1024;
/// Deepest nesting of objects.
const MAX_DEPTH: usize = 10;

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
    /// The document would have more than [`MAX_HALF`] or [`MAX_TAGS`] bytes.
    #[error("twin properties have at most {MAX_HALF} bytes, tags {MAX_TAGS}")]
    TooLarge,
    /// A property that cannot be.
    #[error("a property {0}")]
    Property(&'static str),
}

impl From<BadPatch> for Refusal {
    fn from(bad: BadPatch) -> Self {
        match bad {
            BadPatch::NotAnObject | BadPatch::Property(_) => Self::BadRequest(bad.to_string()),
            BadPatch::TooLarge => Self::TooLarge(bad.to_string()),
        }
    }
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
        self.properties = merged(&self.properties, patch, MAX_HALF)?;
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
    /// Merges a patch into the tags.
    ///
    /// # Errors
    /// [`BadPatch`]; then nothing has changed.
    pub fn tag(&mut self, patch: &Value) -> Result<(), BadPatch> {
        self.tags = merged(&self.tags, patch, MAX_TAGS)?;
        Ok(())
    }

    /// What the device reads.
    #[must_use]
    pub fn for_device(&self) -> Value {
        json!({"desired": self.desired.to_json(), "reported": self.reported.to_json()})
    }
}

/// What a document of at most so many bytes becomes by a patch.
fn merged(
    document: &Map<String, Value>,
    patch: &Value,
    most: usize,
) -> Result<Map<String, Value>, BadPatch> {
    let patch = patch.as_object().ok_or(BadPatch::NotAnObject)?;
    for (key, value) in patch {
        // The hub's own, which clients echo, are not read.
        if !key.starts_with('$') {
            check(key, value, 1)?;
        }
    }
    let mut document = document.clone();
    merge(&mut document, patch);
    // A map of texts and values can always be written.
    let size = serde_json::to_string(&document).map_or(usize::MAX, |text| text.len());
    if size > most {
        return Err(BadPatch::TooLarge);
    }
    Ok(document)
}

fn check(key: &str, value: &Value, depth: usize) -> Result<(), BadPatch> {
    let bad = |what| Err(BadPatch::Property(what));
    let forbidden = |c: char| c.is_control() || matches!(c, '.' | '$' | ' ');
    if key.is_empty() || key.len() > MAX_KEY {
        return bad("has a name of 1 to 1,024 bytes");
    }
    if key.contains(forbidden) {
        return bad("has no dot, dollar sign, blank or control character in its name");
    }
    if depth > MAX_DEPTH {
        return bad("lies at most ten levels deep");
    }
    match value {
        Value::Object(inner) => inner
            .iter()
            .try_for_each(|(key, value)| check(key, value, depth + 1)),
        Value::String(text) if text.len() > MAX_TEXT => bad("has a text of at most 4,096 bytes"),
        _ => Ok(()),
    }
}

/// Merges `patch` into `target`: null removes, objects merge, all else replaces.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
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

    /// Several properties that take so many bytes together.
    fn bulk(name: &str, bytes: usize) -> Value {
        let count = bytes / MAX_TEXT;
        let property = |n| (format!("{name}{n}"), "x".repeat(MAX_TEXT).into());
        Value::Object((0..count).map(property).collect())
    }

    #[test]
    fn a_document_does_not_grow_without_bound() {
        let mut half = Half::default();
        half.patch(&bulk("a", MAX_HALF / 2)).unwrap();
        let before = half.clone();
        assert_eq!(
            half.patch(&bulk("b", MAX_HALF / 2)),
            Err(BadPatch::TooLarge)
        );
        assert_eq!(half, before);
        let mut twin = Twin::default();
        assert_eq!(twin.tag(&bulk("a", MAX_TAGS / 2)), Ok(()));
        assert_eq!(twin.tag(&bulk("b", MAX_TAGS / 2)), Err(BadPatch::TooLarge));
        assert_eq!(twin.tags.len(), 1);
    }

    #[test]
    fn properties_that_cannot_be_are_refused() {
        let deep = (0..MAX_DEPTH).fold(json!(1), |inner, _| json!({ "a": inner }));
        let good = json!({"ä-b_c": [1], "text": "x".repeat(MAX_TEXT), "deep": deep["a"]});
        assert_eq!(Half::default().patch(&good), Ok(2));
        for bad in [
            json!({"a.b": 1}),
            json!({"a": {"b c": 1}}),
            json!({"a": {"$b": 1}}),
            json!({"": 1}),
            json!({"text": "x".repeat(MAX_TEXT + 1)}),
            json!({ "deep": deep }),
        ] {
            let refused = Half::default().patch(&bad);
            assert!(matches!(refused, Err(BadPatch::Property(_))), "{bad}");
        }
    }
}
