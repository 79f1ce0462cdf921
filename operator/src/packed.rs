//! Objects as they are kept: as text. A tree of a Deployment takes ten times the memory of its text, and most
//! of the time nobody looks at it.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    core::{ApiResource, DynamicObject, DynamicResourceScope},
};
use serde::Deserialize;

/// An object, of which only what every event is asked for lies open.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DynamicObject")]
pub struct Packed {
    /// Name, version and owners.
    metadata: ObjectMeta,
    text: Box<str>,
}

impl From<DynamicObject> for Packed {
    fn from(mut object: DynamicObject) -> Self {
        object.metadata.managed_fields = None;
        // A tree always has a text; without one the object would count as not there.
        let text = serde_json::to_string(&object).unwrap_or_default();
        let ObjectMeta {
            name,
            namespace,
            uid,
            resource_version,
            owner_references,
            ..
        } = object.metadata;
        Self {
            metadata: ObjectMeta {
                name,
                namespace,
                uid,
                resource_version,
                owner_references,
                ..ObjectMeta::default()
            },
            text: text.into(),
        }
    }
}

impl Packed {
    /// The whole object.
    #[must_use]
    pub fn unpack(&self) -> Option<DynamicObject> {
        serde_json::from_str(&self.text).ok()
    }
}

impl Resource for Packed {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(resource)
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(resource)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(resource)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(resource)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_packed_comes_out_as_it_went_in_but_for_the_servers_books() {
        let mut object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "labels": {"l": "1"}, "managedFields": [{"manager": "m"}],
                "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "x"}],
            },
            "data": {"k": "v"}, "immutable": true,
        });
        let packed: Packed = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(packed.metadata.name.as_deref(), Some("a"));
        assert_eq!(
            packed.metadata.owner_references.as_ref().map(Vec::len),
            Some(1)
        );
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        assert_eq!(serde_json::to_value(packed.unpack()).unwrap(), object);
    }
}
