//! Where the position in each partition is kept.

use connector_config::BlobContainer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretSource;

/// Where the position in each partition is kept: give exactly one. Which pod reads which partition is
/// always kept in Leases of this namespace.
// Not an enum: its schema would answer two stores at once with a count of alternatives, and not with what
// to do about it. Not nullable either: the API server then drops a null, so that null is absent to its
// rules, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoints {
    /// In the same Leases, one for each partition. They stay for 8 days when the resource is deleted, so that
    /// a connector made anew for the same hub and consumer group goes on where this one stopped; delete
    /// them with `kubectl delete lease -l
    /// app.kubernetes.io/component=claim,app.kubernetes.io/instance=<name>` to start over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "KubernetesCheckpoints")]
    pub kubernetes: Option<KubernetesCheckpoints>,
    /// In blobs of an Azure Storage account, where KEDA's scaler `azure-eventhub` finds them with
    /// `checkpointStrategy: blobMetadata`. A connector that comes from `kubernetes` goes on where it was.
    /// The authorities in `iotHub.tls.ca`, if given, count for the account as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BlobContainer<SecretSource>")]
    pub azure_blob: Option<BlobContainer<SecretSource>>,
}

/// Nothing to say yet; write `{}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KubernetesCheckpoints {}

/// Where the position in each partition is kept, as [`Checkpoints`] says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointStore {
    /// In the Leases that are the claims.
    Kubernetes,
    /// In blobs.
    AzureBlob(BlobContainer<SecretSource>),
}

impl CheckpointStore {
    /// The blobs, if they are the store.
    #[must_use]
    pub fn blobs(&self) -> Option<&BlobContainer<SecretSource>> {
        match self {
            Self::Kubernetes => None,
            Self::AzureBlob(blobs) => Some(blobs),
        }
    }
}

impl TryFrom<Option<Checkpoints>> for CheckpointStore {
    /// The field at fault, below `spec`, and what is wrong with it.
    type Error = (String, String);

    fn try_from(given: Option<Checkpoints>) -> Result<Self, Self::Error> {
        let Some(Checkpoints {
            kubernetes,
            azure_blob,
        }) = given
        else {
            return Ok(Self::Kubernetes);
        };
        match (kubernetes, azure_blob) {
            (Some(KubernetesCheckpoints {}), None) => Ok(Self::Kubernetes),
            (None, Some(blobs)) => match blobs.check() {
                Ok(()) => Ok(Self::AzureBlob(blobs)),
                Err((field, what)) => Err((format!("checkpoints.azureBlob.{field}"), what)),
            },
            (Some(_), Some(_)) => Err(("checkpoints".into(), "names two stores; give one".into())),
            (None, None) => Err(("checkpoints".into(), "names no store; give one".into())),
        }
    }
}
