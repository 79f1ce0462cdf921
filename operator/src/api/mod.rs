//! The custom resource: what a user writes and what the operator answers.

mod asked;
mod checkpoints;
pub mod condition;
pub mod crd;
mod overlay;
mod pod;
mod resource;
mod source;
mod status;
mod stored;
mod validation;

pub use asked::Asked;
pub use checkpoints::{CheckpointStore, Checkpoints, KubernetesCheckpoints};
pub use pod::{Pod, PullPolicy, PullSecret, Quantity, Resources};
pub use resource::{AzureIotHubConnector, AzureIotHubConnectorSpec};
pub use source::{CertificateSource, KeyRef, SecretSource};
pub use status::{
    AzureIotHubConnectorStatus, LastError, MAX_MEMBERS, MemberStatus, PartitionStatus,
};
pub use stored::Stored;
pub use validation::{Validated, ValidationError, validate};
