//! Reads what a resource refers to. The values are digested and dropped at once.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use crate::{
    desired::Owner,
    error::{CallError, Class, call},
    observe::Stores,
    refs::{RefError, RefKind, Reference, SecretDigest},
    store::ObjectKey,
};

/// What the references led to, for one set of versions of the objects.
#[derive(Debug, Clone)]
pub struct Resolved {
    versions: Vec<(Reference, Option<String>)>,
    answer: Result<SecretDigest, RefError>,
}

/// Values of one object; never printed.
type Values = BTreeMap<String, Vec<u8>>;

/// Follows the references of a resource. `known` is the answer of the last time, which holds as long as
/// the watches have seen no other version of the objects: then nothing is read.
///
/// # Errors
/// The class of an error after which it makes sense to try again; what is missing or wrong in the
/// objects is part of the answer instead.
pub async fn resolve(
    client: &Client,
    stores: &Stores,
    owner: &Owner,
    references: &[Reference],
    known: Option<Resolved>,
) -> (Resolved, Option<Class>) {
    let key = |reference: &Reference| ObjectKey::new(&*owner.namespace, &*reference.name);
    let versions: Vec<_> = references
        .iter()
        .map(|reference| {
            (
                reference.clone(),
                stores.version(reference.kind, &key(reference)),
            )
        })
        .collect();
    if let Some(known) = known
        && known.versions == versions
        && !matches!(known.answer, Err(RefError::Unreadable { .. }))
    {
        return (known, None);
    }
    let mut objects: BTreeMap<(RefKind, &str), Values> = BTreeMap::new();
    for (reference, version) in &versions {
        let unknown = !objects.contains_key(&(reference.kind, &*reference.name));
        if unknown && version.is_some() {
            match read(client, owner, reference).await {
                Ok(Some(values)) => {
                    objects.insert((reference.kind, &reference.name), values);
                }
                // Gone since the watch saw it; the watch will say so.
                Ok(None) => {}
                Err(error) => {
                    let class = error.class();
                    let what = error.to_string();
                    let answer = Err(RefError::Unreadable {
                        reference: reference.clone(),
                        what,
                    });
                    return (Resolved { versions, answer }, Some(class));
                }
            }
        }
    }
    let answer = digest(&owner.uid, references, &objects);
    (Resolved { versions, answer }, None)
}

impl Resolved {
    /// The digest of all values.
    ///
    /// # Errors
    /// The first reference that does not lead to a value.
    pub fn digest(&self) -> Result<&SecretDigest, &RefError> {
        self.answer.as_ref()
    }
}

fn digest(
    uid: &str,
    references: &[Reference],
    objects: &BTreeMap<(RefKind, &str), Values>,
) -> Result<SecretDigest, RefError> {
    let mut values = Vec::new();
    for reference in references {
        let object = objects
            .get(&(reference.kind, &*reference.name))
            .ok_or_else(|| RefError::NotFound(reference.clone()))?;
        let value = object
            .get(&reference.key)
            .ok_or_else(|| RefError::NoKey(reference.clone()))?;
        if value.iter().all(u8::is_ascii_whitespace) {
            return Err(RefError::Empty(reference.clone()));
        }
        values.push((reference, &**value));
    }
    Ok(SecretDigest::of(uid, values.into_iter()))
}

async fn read(
    client: &Client,
    owner: &Owner,
    Reference { kind, name, .. }: &Reference,
) -> Result<Option<Values>, CallError> {
    match kind {
        RefKind::Secret => {
            let api: Api<Secret> = Api::namespaced(client.clone(), &owner.namespace);
            let found = call(api.get_opt(name)).await?;
            Ok(found.map(|secret| {
                let data = secret.data.unwrap_or_default();
                data.into_iter()
                    .map(|(key, value)| (key, value.0))
                    .collect()
            }))
        }
        RefKind::ConfigMap => {
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), &owner.namespace);
            let found = call(api.get_opt(name)).await?;
            Ok(found.map(|map| {
                let texts = map.data.unwrap_or_default();
                let bytes = map.binary_data.unwrap_or_default();
                texts
                    .into_iter()
                    .map(|(key, value)| (key, value.into_bytes()))
                    .chain(bytes.into_iter().map(|(key, value)| (key, value.0)))
                    .collect()
            }))
        }
    }
}
