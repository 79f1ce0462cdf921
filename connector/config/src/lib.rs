//! What the operator and a connector pod agree on.
//!
//! * [`Settings`]: the one YAML file a pod is started with. The parts that a user also writes in an
//!   `AzureIotHubConnector` resource ([`Thingworx`], [`IotHub`]) are generic over where a secret or a
//!   certificate comes from: a key of a Secret in the resource, a [`File`] in the pod.
//! * [`MemberReport`]: what a pod says of itself in the annotation of its Lease, the only channel
//!   from pod to operator.
//! * [`label`] and [`annotation`]: the names both sides use for it.

mod commands;
mod dead_letter;
mod iothub;
mod load;
mod member;
mod messages;
mod name;
mod secret;
mod source;
mod store;
mod thingworx;
mod tier;

pub mod annotation;
pub mod label;

pub use commands::Commands;
pub use dead_letter::DeadLetter;
pub use iothub::{EventHubs, HubTls, IotHub, StartPosition, Transport};
pub use load::{LoadError, Settings, load, parse};
pub use member::{MemberReport, Phase, ReportClass};
pub use messages::{Messages, ValueTime};
pub use name::{InvalidName, RoutingGroup, ThingName};
pub use secret::secret_digest;
pub use source::{File, digest8};
pub use store::{BlobContainer, BlobStore, Checkpoints, FileStore, KubernetesStore};
pub use thingworx::{
    GroupBind, NodeSelection, PlatformService, PlatformTls, Thingworx, WriteService,
};
pub use tier::Tier;
