//! Where the pod keeps claims and checkpoints.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where claims and checkpoints are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Checkpoints {
    /// In Leases of the pod's namespace, shared by all pods of the connector.
    Kubernetes(KubernetesStore),
    /// In a local file, for a single process without Kubernetes.
    File(FileStore),
}

/// Leases as store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesStore {
    /// Name of the custom resource: only its members share the claims.
    pub connector: String,
    /// Uid of the custom resource: a claim held for another one is refused.
    pub connector_uid: String,
}

/// A local file as store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStore {
    /// Path of the file; its folder must exist and be writable.
    pub path: PathBuf,
}
