//! What released versions have left in clusters: `tests/released`, recorded from a real server.

use std::path::{Path, PathBuf};

use kube::core::DynamicObject;
use operator::apply::FIELD_MANAGER;
use serde_json::{Value, json};

/// Name and namespace with which the records were made.
const NAME: &str = "demo";
const NAMESPACE: &str = "released";

/// A released version.
pub struct Release {
    pub version: String,
    folder: PathBuf,
}

/// All released versions of which there is a record.
pub fn releases() -> Vec<Release> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/released");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // Beside the releases lies what records them.
        .filter(|path| path.join("children.json").exists())
        .map(|folder| Release {
            version: folder.file_name().unwrap().to_string_lossy().into_owned(),
            folder,
        })
        .collect();
    found.sort_by(|a, b| a.version.cmp(&b.version));
    assert!(!found.is_empty());
    found
}

impl Release {
    fn read(&self, file: &str) -> Value {
        let text = std::fs::read_to_string(self.folder.join(file)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Its definition.
    pub fn definition(&self) -> Value {
        self.read("crd.json")
    }

    /// Spec and status of its resource, as if they had been made in this namespace.
    pub fn resource(&self, namespace: &str) -> (Value, Value) {
        let text = self.read("resource.json").to_string();
        let mut resource: Value =
            serde_json::from_str(&text.replace(NAMESPACE, namespace)).unwrap();
        (resource["spec"].take(), resource["status"].take())
    }

    /// Its children, as it applied them for a resource of this name and uid.
    pub fn children(&self, namespace: &str, name: &str, uid: &str) -> Vec<Applied> {
        let old = self.read("resource.json")["metadata"]["uid"].take();
        let text = self.read("children.json").to_string();
        let text = text
            .replace(NAMESPACE, namespace)
            .replace(NAME, name)
            .replace(old.as_str().unwrap(), uid);
        let list: Value = serde_json::from_str(&text).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        // Leases are the connectors' own.
        let children = items.filter(|object| object["kind"] != "Lease");
        children.map(Applied::of).collect()
    }
}

/// An object as somebody applied it.
pub struct Applied {
    /// What was sent.
    pub object: Value,
    /// What the server wrote down as owned by it.
    pub owned: Value,
}

impl Applied {
    /// What the operator sent, told by what the server says that it owns.
    pub fn of(stored: &Value) -> Self {
        let owned = owned(&stored["metadata"]["managedFields"]);
        assert_eq!(owned.len(), 1, "{owned:?}");
        let owned = owned[0]["fields"].clone();
        let mut object = owned_part(&owned, stored);
        for key in ["apiVersion", "kind"] {
            object[key] = stored[key].clone();
        }
        for key in ["name", "namespace"] {
            object["metadata"][key] = stored["metadata"][key].clone();
        }
        Self { object, owned }
    }
}

/// What the operator owns of an object, by way of writing: one apply, if all is well.
pub fn owned_by_operator(object: &DynamicObject) -> Vec<Value> {
    owned(&serde_json::to_value(&object.metadata.managed_fields).unwrap())
}

fn owned(managed: &Value) -> Vec<Value> {
    let entries = managed.as_array().into_iter().flatten();
    entries
        .filter(|entry| entry["manager"] == FIELD_MANAGER)
        .map(|entry| {
            json!({
                "operation": entry["operation"], "subresource": entry["subresource"],
                "fields": entry["fieldsV1"],
            })
        })
        .collect()
}

/// The part of an object that a set of fields (`FieldsV1`) describes.
fn owned_part(fields: &Value, object: &Value) -> Value {
    let fields = fields.as_object().unwrap();
    if fields.is_empty() {
        return object.clone();
    }
    match object {
        Value::Array(list) => {
            let part = |element: &Value| {
                let mut named = fields.iter().filter_map(|(key, fields)| {
                    Some((serde_json::from_str(key.strip_prefix("k:")?).ok()?, fields))
                });
                let (_, fields) = named.find(|(keys, _)| holds(element, keys))?;
                Some(owned_part(fields, element))
            };
            Value::Array(list.iter().filter_map(part).collect())
        }
        object => {
            let part = |(key, fields): (&String, &Value)| {
                let key = key.strip_prefix("f:")?;
                Some((key.to_owned(), owned_part(fields, &object[key])))
            };
            Value::Object(fields.iter().filter_map(part).collect())
        }
    }
}

fn holds(element: &Value, keys: &Value) -> bool {
    let keys = keys.as_object().unwrap();
    keys.iter().all(|(key, value)| &element[key] == value)
}
