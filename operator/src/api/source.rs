//! Where the values come from that do not stand in the resource itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a secret value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretSource {
    /// A key of a Secret in the namespace of this resource. When its value changes, the pods are
    /// replaced one by one.
    pub secret_key_ref: KeyRef,
}

/// Where certificates come from: give exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CertificateSource {
    /// A key of a `ConfigMap` in the namespace of this resource.
    ConfigMapKeyRef(KeyRef),
    /// A key of a Secret in the namespace of this resource.
    SecretKeyRef(KeyRef),
}

/// One key of an object in the namespace of this resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key within its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}
