//! Secrets and `ConfigMap`s that resources refer to.

use std::collections::{BTreeMap, BTreeSet};

use connector_config::{BlobContainer, DeadLetter, IotHub, Thingworx, secret_digest};

use crate::{
    api::{CertificateSource, KeyRef, SecretSource, condition::Reason},
    store::ObjectKey,
};

/// Kind of an object that is referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefKind {
    /// A Secret.
    Secret,
    /// A `ConfigMap`.
    ConfigMap,
}

impl RefKind {
    /// As Kubernetes writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// A key of an object in the resource's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Field of the spec that refers to it.
    pub field: &'static str,
    /// Kind of the object.
    pub kind: RefKind,
    /// Its name.
    pub name: String,
    /// The key.
    pub key: String,
}

impl Reference {
    fn new(field: &'static str, kind: RefKind, KeyRef { name, key }: &KeyRef) -> Self {
        Self {
            field,
            kind,
            name: name.clone(),
            key: key.clone(),
        }
    }

    fn secret(field: &'static str, source: &SecretSource) -> Self {
        Self::new(field, RefKind::Secret, &source.secret_key_ref)
    }

    fn certificate(field: &'static str, source: &CertificateSource) -> Self {
        match source {
            CertificateSource::ConfigMapKeyRef(key) => Self::new(field, RefKind::ConfigMap, key),
            CertificateSource::SecretKeyRef(key) => Self::new(field, RefKind::Secret, key),
        }
    }
}

/// What a spec refers to, in a fixed order.
#[must_use]
pub fn references(
    thingworx: &Thingworx<SecretSource, CertificateSource>,
    iot_hub: &IotHub<SecretSource, CertificateSource>,
    blobs: Option<&BlobContainer<SecretSource>>,
) -> Vec<Reference> {
    let platform_ca = thingworx.tls.as_ref().and_then(|tls| tls.ca.as_ref());
    let hub_ca = iot_hub.tls.as_ref().and_then(|tls| tls.ca.as_ref());
    let events = iot_hub.event_hubs.connection_string.as_ref();
    let letters = iot_hub.dead_letter.as_ref().and_then(DeadLetter::blobs);
    let letters = letters.map(|blobs| &blobs.connection_string);
    let secrets = [
        ("thingworx.appKey", Some(&thingworx.app_key)),
        ("iotHub.connectionString", Some(&iot_hub.connection_string)),
        (
            "iotHub.registryConnectionString",
            iot_hub.registry_connection_string.as_ref(),
        ),
        ("iotHub.eventHubs.connectionString", events),
        ("iotHub.deadLetter.azureBlob.connectionString", letters),
    ];
    let storage = blobs.map(|blobs| {
        let field = "checkpoints.azureBlob.connectionString";
        (field, &blobs.connection_string)
    });
    let certificates = [("thingworx.tls.ca", platform_ca), ("iotHub.tls.ca", hub_ca)];
    secrets
        .into_iter()
        .filter_map(|(field, source)| Some((field, source?)))
        .chain(storage)
        .map(|(field, source)| Reference::secret(field, source))
        .chain(
            certificates
                .into_iter()
                .filter_map(|(field, source)| Some(Reference::certificate(field, source?))),
        )
        .collect()
}

/// Keyed digest of all referenced values: it changes when one does, and tells nothing of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretDigest(String);

impl SecretDigest {
    /// The digest as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Digest of values in the order of their references. `uid` of the resource is the key, so that
    /// equal secrets of two connectors do not show as equal.
    #[must_use]
    pub fn of<'a>(uid: &str, values: impl Iterator<Item = (&'a Reference, &'a [u8])>) -> Self {
        let values = values.map(|(reference, value)| (reference.field, value));
        Self(secret_digest(uid, values))
    }
}

/// Why a reference does not lead to a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    /// The object does not exist.
    #[error(
        "{} {} (spec.{}) does not exist in this namespace; the running pods are left as they are",
        .0.kind.as_str(), .0.name, .0.field
    )]
    NotFound(Reference),
    /// The object has no such key.
    #[error("{} {} (spec.{}) has no key {}", .0.kind.as_str(), .0.name, .0.field, .0.key)]
    NoKey(Reference),
    /// The key's value is empty.
    #[error("{} {} (spec.{}): the value of key {} is empty", .0.kind.as_str(), .0.name, .0.field, .0.key)]
    Empty(Reference),
    /// The object cannot be read.
    #[error("{} {} (spec.{}) cannot be read: {what}", .reference.kind.as_str(), .reference.name, .reference.field)]
    Unreadable {
        /// What was asked for.
        reference: Reference,
        /// What the API server said.
        what: String,
    },
}

impl RefError {
    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound(Reference {
                kind: RefKind::Secret,
                ..
            }) => Reason::SecretNotFound,
            Self::NotFound(Reference {
                kind: RefKind::ConfigMap,
                ..
            }) => Reason::ConfigMapNotFound,
            Self::NoKey(_) => Reason::KeyNotFound,
            Self::Empty(_) => Reason::KeyEmpty,
            Self::Unreadable { .. } => Reason::ReferenceUnreadable,
        }
    }
}

/// Which resources refer to an object.
#[derive(Debug, Default)]
pub struct Index {
    by_resource: BTreeMap<ObjectKey, BTreeSet<(RefKind, ObjectKey)>>,
    by_object: BTreeMap<(RefKind, ObjectKey), BTreeSet<ObjectKey>>,
}

impl Index {
    /// The resource `key` refers to this and nothing else; an empty list forgets it.
    pub fn set(&mut self, key: &ObjectKey, references: &[Reference]) {
        let objects: BTreeSet<_> = references
            .iter()
            .map(|reference| (reference.kind, key.sibling(&reference.name)))
            .collect();
        let before = if objects.is_empty() {
            self.by_resource.remove(key)
        } else {
            self.by_resource.insert(key.clone(), objects.clone())
        };
        for gone in before
            .iter()
            .flatten()
            .filter(|object| !objects.contains(*object))
        {
            if let Some(resources) = self.by_object.get_mut(gone) {
                resources.remove(key);
                if resources.is_empty() {
                    self.by_object.remove(gone);
                }
            }
        }
        for object in objects {
            self.by_object
                .entry(object)
                .or_default()
                .insert(key.clone());
        }
    }

    /// The resources that refer to an object.
    pub fn get(&self, kind: RefKind, object: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        self.by_object
            .get(&(kind, object.clone()))
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(field: &'static str, name: &str) -> Reference {
        Reference {
            field,
            kind: RefKind::Secret,
            name: name.into(),
            key: "k".into(),
        }
    }

    #[test]
    fn the_index_follows_what_a_resource_refers_to() {
        let key = |name: &str| ObjectKey::new("plant", name);
        let mut index = Index::default();
        let who = |index: &Index, name: &str| -> Vec<String> {
            index
                .get(RefKind::Secret, &key(name))
                .map(|key| key.name.clone())
                .collect()
        };
        index.set(
            &key("one"),
            &[reference("a", "shared"), reference("b", "shared")],
        );
        index.set(
            &key("two"),
            &[reference("a", "shared"), reference("b", "own")],
        );
        assert_eq!(who(&index, "shared"), ["one", "two"]);
        assert_eq!(who(&index, "own"), ["two"]);
        index.set(&key("two"), &[reference("a", "other")]);
        assert_eq!(who(&index, "shared"), ["one"]);
        assert_eq!(who(&index, "own"), Vec::<String>::new());
        index.set(&key("one"), &[]);
        index.set(&key("two"), &[]);
        assert!(index.by_object.is_empty() && index.by_resource.is_empty());
    }

    #[test]
    fn the_digest_changes_with_each_value_and_with_the_owner() {
        let (a, b) = (reference("a", "s"), reference("b", "s"));
        let of = |uid: &str, one: &[u8], two: &[u8]| {
            SecretDigest::of(uid, [(&a, one), (&b, two)].into_iter())
        };
        let digest = of("uid", b"1", b"2");
        assert_eq!(digest, of("uid", b"1", b"2"));
        for other in [
            of("uid", b"2", b"1"),
            of("uid", b"12", b""),
            of("other", b"1", b"2"),
        ] {
            assert_ne!(digest, other);
        }
        assert_eq!(digest.as_str().len(), 32);
    }
}
