//! Objects as they are kept: as text. A tree of a Deployment takes ten times the memory of its text, and most
//! of the time nobody looks at it.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::{
    Resource,
    core::{ApiResource, DynamicObject, DynamicResourceScope},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// An object, of which only what every event is asked for lies open.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Value")]
pub struct Packed {
    /// Name, version, owners and whether it is going.
    metadata: ObjectMeta,
    text: Box<str>,
}

/// What lies open: read alone, because all of the metadata is read slowly and takes much memory.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Open {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    deletion_timestamp: Option<Time>,
}

impl TryFrom<Value> for Packed {
    type Error = serde_json::Error;

    fn try_from(mut object: Value) -> Result<Self, Self::Error> {
        let metadata = object.get_mut("metadata");
        let open = match metadata {
            Some(metadata) => {
                if let Some(fields) = metadata.as_object_mut() {
                    fields.remove("managedFields");
                }
                Open::deserialize(&*metadata)?
            }
            None => Open::default(),
        };
        Ok(Self {
            metadata: ObjectMeta {
                name: open.name,
                namespace: open.namespace,
                uid: open.uid,
                resource_version: open.resource_version,
                owner_references: open.owner_references,
                deletion_timestamp: open.deletion_timestamp,
                ..ObjectMeta::default()
            },
            text: serde_json::to_string(&object)?.into(),
        })
    }
}

impl Packed {
    /// The whole object; `None` if it has not this form.
    #[must_use]
    pub fn unpack<T: DeserializeOwned>(&self) -> Option<T> {
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
        assert_eq!(packed.unpack(), Some(object));
    }
}
