//! A resource as the API server keeps it: perhaps in the words of another version.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{AzureIotHubConnector, AzureIotHubConnectorSpec, AzureIotHubConnectorStatus};

/// A stored resource, part by part: a spec that cannot be read stops neither the watch of all resources nor
/// the comparison with the status that was written for it.
#[derive(Debug, Clone, Resource)]
#[resource(inherit = AzureIotHubConnector)]
pub struct Stored {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// The spec, or why it cannot be read.
    pub spec: Result<AzureIotHubConnectorSpec, String>,
    /// The status; empty if there is none, or none that can be read.
    pub status: AzureIotHubConnectorStatus,
}

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Parts {
            #[serde(default)]
            metadata: ObjectMeta,
            #[serde(default)]
            spec: Value,
            #[serde(default)]
            status: Value,
        }
        let Parts {
            metadata,
            spec,
            status,
        } = Parts::deserialize(deserializer)?;
        Ok(Self {
            metadata,
            spec: serde_json::from_value(spec).map_err(|error| error.to_string()),
            status: serde_json::from_value(status).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_spec_that_cannot_be_read_leaves_metadata_and_status() {
        let stored: Stored = serde_json::from_value(json!({
            "metadata": {"name": "factory"},
            "spec": {"replicas": "many"},
            "status": {"replicas": 2},
        }))
        .unwrap();
        assert_eq!(stored.metadata.name.as_deref(), Some("factory"));
        assert_eq!(stored.status.replicas, Some(2));
        assert!(stored.spec.unwrap_err().contains("many"));
    }
}
