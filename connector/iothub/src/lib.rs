//! Azure IoT Hub from the service side.
//!
//! * [`EventSource`]: device-to-cloud messages, read partition by partition from the hub's built-in
//!   Event Hubs-compatible endpoint ([`SdkSource`] over Microsoft's `azure_messaging_eventhubs`);
//! * [`built_in_endpoint`]: where that endpoint is, asked from the hub;
//! * [`C2dSender`]: cloud-to-device messages over AMQP; [`receive_feedback`]: what has become of them;
//! * [`HubRest`]: the hub's REST face over HTTPS:
//!   * direct methods: [`HubRest::invoke`];
//!   * twins: [`HubRest::twin`], [`HubRest::patch_twin`];
//!   * registry: [`HubRest::create_device`], [`HubRest::delete_device`], [`HubRest::device`],
//!     [`HubRest::registry_statistics`];
//!   * queries, page by page: [`HubRest::query`];
//!   * jobs: [`HubRest::schedule_twin_update`], [`HubRest::schedule_method`], [`HubRest::job`],
//!     [`HubRest::jobs`], [`HubRest::cancel_job`], [`HubRest::job_results`];
//! * [`sas`], [`HubConnectionString`], [`EventHubsConnectionString`]: how a shared access policy is
//!   written down and how it signs.
//!
//! Every failure is a [`HubError`], which tells what kind it is ([`HubError::class`]) and whether the
//! hub may have taken what it was given ([`HubError::taken`]): together they decide whether a caller
//! may try again. Nothing here is sent twice by itself. A request to the REST face ends within 10 s, a
//! page of a query or list within 35 s, a direct method within its own times and 10 s more.
//!
//! The registry and jobs need other rights than the rest. A policy that has them can sign another
//! [`HubRest`] over the same hub.
//!
//! A process that uses this crate must have a process-wide rustls provider installed
//! (`rustls::crypto::aws_lc_rs::default_provider().install_default()`) before it reads from a hub:
//! Microsoft's SDK builds its TLS settings from it. Our own connections name their provider.

mod amqp;
mod c2d;
mod connection_string;
mod dial;
mod error;
mod event;
mod feedback;
mod instant;
mod key;
mod redirect;
mod refusal;
mod rest;
pub mod sas;
mod sdk;
mod source;
mod tls;
mod token;
mod way;

pub use amqp::HubAmqpSettings;
pub use c2d::{Ack, C2dMessage, C2dSender};
pub use connection_string::{
    ConnectionStringError, EventHubsConnectionString, HubConnectionString,
    Parts as ConnectionStringParts,
};
pub use error::{Class, HubError, Taken};
pub use event::{Event, MessageSource};
pub use feedback::{FeedbackRecord, FeedbackStatus, receive_feedback};
pub use key::SecretKey;
pub use redirect::{BuiltInEndpoint, built_in_endpoint};
pub use rest::{
    Condition, Continuation, Device, DeviceStatus, HubRest, HubRestSettings, Job, JobError,
    JobFilter, JobId, JobKind, JobMethod, JobResult, JobSchedule, JobStatistics, JobStatus,
    MethodAnswer, MethodCall, Page, PageRequest, RegistryStatistics, Twin, TwinPatch,
    TwinProperties, TwinReader, quoted,
};
pub use sdk::{SdkSource, SdkSourceSettings};
pub use source::{
    Batches, Epoch, EventSource, Offset, PartitionId, PartitionProperties, Position, SourceIdentity,
};
pub use tls::HubTls;
pub use way::{Proxy, ProxyError, Transport, Way};
