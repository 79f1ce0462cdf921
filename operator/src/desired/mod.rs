//! What should exist for a resource: a function of values, so that equal input gives equal bytes.

mod config_map;
mod deployment;
mod disruption_budget;
mod role;
mod role_binding;
mod service_account;
mod volumes;

use std::collections::BTreeMap;

use connector_config::{annotation, label};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Resource,
    core::{ApiResource, GroupVersionKind},
};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    api::{AzureIotHubConnector, PullPolicy, Validated},
    refs::SecretDigest,
};

pub use config_map::settings;

/// The resource that owns what is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Namespace of the resource and of all its children.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// Its uid: a resource made anew under an old name is another one.
    pub uid: String,
}

/// What the operator was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Image of the connector.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
}

/// Kinds of children, in the order in which they are applied: a Deployment that runs can rely on all
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    /// The pods' identity.
    ServiceAccount,
    /// The pods' rights.
    Role,
    /// Gives the rights to the identity.
    RoleBinding,
    /// The settings; a new one for each version of them.
    ConfigMap,
    /// Lets nodes be drained one pod at a time.
    PodDisruptionBudget,
    /// The pods.
    Deployment,
}

impl ChildKind {
    /// All kinds, in the order in which they are applied.
    pub const ALL: [Self; 6] = [
        Self::ServiceAccount,
        Self::Role,
        Self::RoleBinding,
        Self::ConfigMap,
        Self::PodDisruptionBudget,
        Self::Deployment,
    ];

    /// As Kubernetes writes it; also the metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Role => "Role",
            Self::RoleBinding => "RoleBinding",
            Self::ConfigMap => "ConfigMap",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::Deployment => "Deployment",
        }
    }

    /// Whether pods must not run without it: their identity, rights and settings.
    #[must_use]
    pub const fn pods_need_it(self) -> bool {
        match self {
            Self::ServiceAccount | Self::Role | Self::RoleBinding | Self::ConfigMap => true,
            Self::PodDisruptionBudget | Self::Deployment => false,
        }
    }

    /// Where the API server serves it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let (group, plural) = match self {
            Self::ServiceAccount => ("", "serviceaccounts"),
            Self::Role => ("rbac.authorization.k8s.io", "roles"),
            Self::RoleBinding => ("rbac.authorization.k8s.io", "rolebindings"),
            Self::ConfigMap => ("", "configmaps"),
            Self::PodDisruptionBudget => ("policy", "poddisruptionbudgets"),
            Self::Deployment => ("apps", "deployments"),
        };
        ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(group, "v1", self.as_str()),
            plural,
        )
    }
}

/// One object as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: ChildKind,
    /// Its name.
    pub name: String,
    /// All fields that the operator owns, with [`annotation::APPLIED_HASH`].
    pub object: Value,
    /// Hash of `object` without that annotation.
    pub hash: String,
}

/// Why a resource cannot be rendered: a value without a JSON or YAML form, which is a fault of this
/// program.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The settings.
    #[error("the settings cannot be written: {0}")]
    Settings(#[from] serde_yaml::Error),
    /// A child.
    #[error("a child cannot be written: {0}")]
    Child(#[from] serde_json::Error),
}

/// Everything that should exist for a resource, in the order in which it is applied. `restart` is the word of
/// [`crate::restart`] that the pods' template carries.
///
/// # Errors
/// [`RenderError`].
pub fn desired(
    owner: &Owner,
    spec: &Validated,
    secrets: &SecretDigest,
    defaults: &Defaults,
    restart: Option<&str>,
) -> Result<Vec<Child>, RenderError> {
    let config_map = config_map::render(owner, spec)?;
    let settings = config_map.metadata.name.clone().unwrap_or_default();
    Ok(vec![
        child(ChildKind::ServiceAccount, &service_account::render(owner))?,
        child(ChildKind::Role, &role::render(owner))?,
        child(ChildKind::RoleBinding, &role_binding::render(owner))?,
        child(ChildKind::ConfigMap, &config_map)?,
        child(
            ChildKind::PodDisruptionBudget,
            &disruption_budget::render(owner),
        )?,
        child(
            ChildKind::Deployment,
            &deployment::render(owner, spec, secrets, &settings, defaults, restart),
        )?,
    ])
}

impl Owner {
    /// Name of the children that have no version of their own.
    #[must_use]
    pub fn child(&self) -> String {
        format!("{}-connector", self.name)
    }

    /// Labels by which the pods are found; they never change.
    #[must_use]
    pub fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from(
            [
                (label::NAME, label::NAME_VALUE),
                (label::INSTANCE, &self.name),
                (label::COMPONENT, label::COMPONENT_CONNECTOR),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        )
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert(
            label::MANAGED_BY.to_owned(),
            label::MANAGED_BY_VALUE.to_owned(),
        );
        labels
    }

    /// Metadata of a child of this name: garbage collection removes it after the resource.
    fn metadata(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            owner_references: Some(vec![OwnerReference {
                api_version: AzureIotHubConnector::api_version(&()).into_owned(),
                kind: AzureIotHubConnector::kind(&()).into_owned(),
                name: self.name.clone(),
                uid: self.uid.clone(),
                controller: Some(true),
                // Deleting the resource in the foreground waits for its pods.
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        }
    }
}

fn child(kind: ChildKind, object: &impl Serialize) -> Result<Child, RenderError> {
    let mut object = sorted(serde_json::to_value(object)?);
    let hash = hex(&Sha256::digest(object.to_string())[..16]);
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        let annotations = metadata
            .entry("annotations")
            .or_insert_with(|| Value::Object(Default::default()));
        annotations[annotation::APPLIED_HASH] = Value::String(hash.clone());
    }
    Ok(Child {
        kind,
        name,
        object,
        hash,
    })
}

/// The same tree with the keys of each map in order: whether a map of `serde_json` keeps the order of
/// insertion is decided by a feature that any crate of the build can turn on.
fn sorted(tree: Value) -> Value {
    match tree {
        Value::Object(map) => {
            let map: BTreeMap<_, _> = map
                .into_iter()
                .map(|(key, tree)| (key, sorted(tree)))
                .collect();
            Value::Object(map.into_iter().collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
        leaf => leaf,
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
