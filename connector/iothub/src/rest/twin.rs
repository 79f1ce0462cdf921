//! Twins.

use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    DOCUMENT_MAX, HubRest,
    answer::{document, typed},
    condition::Condition,
    identity::Identity,
};
use crate::{HubError, refusal::Subject};

/// Whatever twins can be read from.
#[async_trait]
pub trait TwinReader: Send + Sync {
    /// The twin of a device, or of a module of it, as the hub's REST face writes it: an object with
    /// `version`, `tags` and `properties`.
    ///
    /// # Errors
    /// [`HubError`]; reading can always be repeated.
    async fn twin(&self, device: &str, module: Option<&str>) -> Result<Value, HubError>;
}

#[async_trait]
impl TwinReader for HubRest {
    async fn twin(&self, device: &str, module: Option<&str>) -> Result<Value, HubError> {
        HubRest::twin(self, device, module).await
    }
}

/// A twin, as far as it says what it is about. Read from an answer, or from an item of a page of twins.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Twin {
    /// The device.
    pub device_id: String,
    /// The module of it, if it is one's twin.
    #[serde(default)]
    pub module_id: Option<String>,
    /// The version of the whole twin, for [`Condition::Unchanged`]: without quotes.
    #[serde(default)]
    pub etag: String,
    /// Counts its changes.
    #[serde(default)]
    pub version: u64,
    /// What only services see.
    #[serde(default)]
    pub tags: Map<String, Value>,
    /// What services want, and what the device says.
    #[serde(default)]
    pub properties: TwinProperties,
}

/// The two halves of a twin's properties, each with the hub's `$metadata` and `$version`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct TwinProperties {
    /// What services want.
    #[serde(default)]
    pub desired: Map<String, Value>,
    /// What the device says.
    #[serde(default)]
    pub reported: Map<String, Value>,
}

/// A change of a twin. What is not named stays as it is; a null deletes; objects are merged.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TwinPatch {
    /// Changes of the tags; at most 8 KiB of them in all.
    pub tags: Option<Map<String, Value>>,
    /// Changes of the desired properties; at most 32 KiB of them in all. A device that listens is told.
    pub desired: Option<Map<String, Value>>,
}

impl TwinPatch {
    /// As the hub's REST face and its jobs take it.
    pub(super) fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        if let Some(tags) = &self.tags {
            body.insert("tags".into(), Value::Object(tags.clone()));
        }
        if let Some(desired) = &self.desired {
            body.insert("properties".into(), json!({ "desired": desired }));
        }
        body
    }
}

impl HubRest {
    /// Reads a twin: `GET /twins/{device}` or `GET /twins/{device}/modules/{module}`. The policy needs
    /// the right ServiceConnect.
    ///
    /// # Errors
    /// [`HubError`]; reading can always be repeated.
    pub async fn twin(&self, device: &str, module: Option<&str>) -> Result<Value, HubError> {
        let identity = Identity::new(device, module)?;
        let id = identity.id();
        let subject = Subject {
            what: "reading a twin",
            id: &id,
            right: "ServiceConnect",
        };
        let request = self.request(Method::GET, &identity.twin_path());
        self.exchange(request, subject, DOCUMENT_MAX, document)
            .await
    }

    /// Changes tags and desired properties: `PATCH /twins/{device}[/modules/{module}]`; gives the new
    /// twin. The policy needs the right ServiceConnect. Source: Microsoft Learn, "Devices - Update Twin".
    ///
    /// # Errors
    /// [`HubError::Changed`] if the twin is not of the version in `condition`; any other [`HubError`].
    /// Where [`HubError::taken`] is unknown, repeating does no harm unless somebody else has changed the
    /// same properties in between; with [`Condition::Unchanged`] not even then.
    pub async fn patch_twin(
        &self,
        device: &str,
        module: Option<&str>,
        patch: &TwinPatch,
        condition: &Condition,
    ) -> Result<Twin, HubError> {
        let identity = Identity::new(device, module)?;
        let id = identity.id();
        let subject = Subject {
            what: "the change of a twin",
            id: &id,
            right: "ServiceConnect",
        };
        let body = Value::Object(patch.body());
        let request = self.request_with(Method::PATCH, &identity.twin_path(), &body);
        let request = condition.apply(request)?;
        self.exchange(request, subject, DOCUMENT_MAX, typed).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_names_only_what_it_changes() {
        let object = |value: Value| value.as_object().cloned();
        let mut patch = TwinPatch::default();
        assert_eq!(Value::Object(patch.body()), json!({}));
        patch.desired = object(json!({"rate": 5, "old": null}));
        assert_eq!(
            Value::Object(patch.body()),
            json!({"properties": {"desired": {"rate": 5, "old": null}}})
        );
        patch.tags = object(json!({"site": "a"}));
        assert_eq!(patch.body()["tags"], json!({"site": "a"}));
    }

    #[test]
    fn a_twin_is_read_from_little() {
        let twin: Twin = serde_json::from_value(json!({"deviceId": "d"})).unwrap();
        assert_eq!((twin.device_id.as_str(), twin.module_id), ("d", None));
        assert!(twin.properties.reported.is_empty());
    }
}
