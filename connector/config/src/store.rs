//! Where the pod keeps claims and checkpoints.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::File;

/// Where claims and checkpoints are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Checkpoints {
    /// In Leases of the pod's namespace, shared by all pods of the connector.
    Kubernetes(KubernetesStore),
    /// Checkpoints in blobs of Azure Storage; claims in Leases, or with a single process nowhere.
    AzureBlob(BlobStore),
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

/// Blobs as store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobStore {
    /// See [`BlobContainer::container`].
    pub container: String,
    /// See [`BlobContainer::connection_string`].
    pub connection_string: File,
    /// Whose members share the claims. Left out: this process reads all partitions alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesStore>,
}

/// A local file as store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStore {
    /// Path of the file; its folder must exist and be writable.
    pub path: PathBuf,
}

/// A container of an Azure Storage account. `S` is where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlobContainer<S> {
    /// Name of the container. It must exist.
    #[schemars(
        length(min = 3, max = 63),
        regex(pattern = r"^[a-z0-9]+(-[a-z0-9]+)*$")
    )]
    pub container: String,
    /// Connection string of the storage account, with a key
    /// (`DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…;EndpointSuffix=core.windows.net`) or
    /// with a shared access signature that may read, create and write blobs
    /// (`BlobEndpoint=https://…;SharedAccessSignature=…`).
    pub connection_string: S,
}

/// What the schema of [`BlobContainer::container`] says, for settings that have none.
///
/// # Errors
/// What is wrong with the name.
pub(crate) fn check_container(name: &str) -> Result<(), String> {
    let words = name.split('-').all(|word| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        !word.is_empty() && word.chars().all(plain)
    });
    if words && (3..=63).contains(&name.len()) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name of a container: 3 to 63 lower-case letters, digits and single hyphens"
    ))
}

impl Checkpoints {
    /// What the form alone cannot say.
    ///
    /// # Errors
    /// The field at fault, below `checkpoints`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        match self {
            Self::AzureBlob(store) => check_container(&store.container)
                .map_err(|what| ("azureBlob.container".into(), what)),
            Self::Kubernetes(_) | Self::File(_) => Ok(()),
        }
    }
}

impl<S> BlobContainer<S> {
    /// What the schema alone cannot say.
    ///
    /// # Errors
    /// The field at fault and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        check_container(&self.container).map_err(|what| ("container".into(), what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_a_name_that_azure_takes() {
        for good in ["abc", "a-1", "checkpoints-of-plant-7", &"a".repeat(63)] {
            assert_eq!(check_container(good), Ok(()));
        }
        for bad in [
            "",
            "ab",
            "A-b",
            "a--b",
            "-ab",
            "ab-",
            "a_b",
            "a/b",
            &"a".repeat(64),
        ] {
            assert!(check_container(bad).is_err(), "{bad:?}");
        }
    }
}
