//! What a pod says of itself.

use serde::{Deserialize, Serialize};

/// What one member says of itself in the annotation `iot-connectors.dev/report` of its Lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberReport {
    /// Version of this format: [`Self::FORMAT`].
    pub format: u32,
    /// How far the member has come.
    pub phase: Phase,
    /// Class of what is wrong; `None` when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ReportClass>,
    /// CamelCase reason from a closed list, fit for a condition; empty when nothing is wrong.
    #[serde(default)]
    pub reason: String,
    /// What is wrong and what to do, at most 256 characters; empty when nothing is wrong.
    #[serde(default)]
    pub message: String,
    /// The member's own Thing on the platform.
    pub thing: String,
    /// The resolved routing group, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Nodes on which the hub Thing is bound by this member.
    pub nodes_bound: u32,
    /// Nodes that are configured or resolved.
    pub nodes: u32,
    /// Partitions that this member reads now.
    pub partitions: Vec<String>,
    /// Partitions that the hub has, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions_total: Option<u32>,
    /// Digest of the settings the member runs with.
    pub settings_digest: String,
    /// Keyed digest of the secrets as the member found them when it started. A node may mount them a while after
    /// they were changed, so it can be another than the pod was rolled out with.
    #[serde(default)]
    pub secret_digest: String,
    /// `pod-template-hash` of the member's pod; empty outside Kubernetes.
    #[serde(default)]
    pub pod_template_hash: String,
    /// The member is going: it takes no new work.
    pub draining: bool,
}

impl MemberReport {
    /// Raised when a field changes its meaning.
    pub const FORMAT: u32 = 1;
    /// Longest message, in characters; the annotation is for a status line, not for a log.
    pub const MAX_MESSAGE: usize = 256;

    /// The reason of what is wrong with dead letters.
    pub const DEAD_LETTER: &str = "DeadLetterUnwritable";
    /// Reason of a member whose services ThingWorx does not take.
    pub const DEVICE_SERVICES: &str = "DeviceServicesMissing";
    /// Reason of a member that cannot bind some devices by name.
    pub const DEVICE_BIND: &str = "DeviceBindRefused";
    /// Reason of a member that cannot list the devices to be bound by name.
    pub const DEVICE_LIST: &str = "DeviceListUnreadable";
    /// Reason of a member whose user may not fire events on ThingWorx.
    pub const EVENT_RIGHT: &str = "EventRightMissing";
    /// Reason of a member whose policy lacks a right on the hub's registry.
    pub const REGISTRY_RIGHT: &str = "RegistryRightMissing";

    /// The report of a member that has just started: nothing is known, and nothing wrong.
    #[must_use]
    pub fn new(thing: impl Into<String>) -> Self {
        Self {
            format: Self::FORMAT,
            phase: Phase::ProvingHub,
            class: None,
            reason: String::new(),
            message: String::new(),
            thing: thing.into(),
            group: None,
            nodes_bound: 0,
            nodes: 0,
            partitions: Vec::new(),
            partitions_total: None,
            settings_digest: String::new(),
            secret_digest: String::new(),
            pod_template_hash: String::new(),
            draining: false,
        }
    }

    /// Whether what is wrong keeps nobody from working, whatever its class.
    #[must_use]
    pub fn is_minor(&self) -> bool {
        Self::is_minor_reason(&self.reason)
    }

    /// Whether a trouble with this reason keeps nobody from working.
    #[must_use]
    pub fn is_minor_reason(reason: &str) -> bool {
        [
            Self::DEAD_LETTER,
            Self::DEVICE_SERVICES,
            Self::DEVICE_BIND,
            Self::DEVICE_LIST,
            Self::EVENT_RIGHT,
            Self::REGISTRY_RIGHT,
        ]
        .contains(&reason)
    }

    /// `text` cut to [`Self::MAX_MESSAGE`] characters on a character's boundary.
    #[must_use]
    pub fn cut(text: &str) -> String {
        text.chars().take(Self::MAX_MESSAGE).collect()
    }
}

/// How far a member has come on the way of its start and stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Proving the hub's senders.
    ProvingHub,
    /// Connecting to the platform and binding its own Thing.
    Connecting,
    /// Resolving the routing group and binding the hub Thing.
    Binding,
    /// Bound and ready.
    Running,
    /// Handing over and answering what still arrives.
    Draining,
}

/// Class of an error, which alone decides the condition's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportClass {
    /// Settings are wrong.
    User,
    /// Credentials or rights are refused.
    Denied,
    /// Something named does not exist.
    NotFound,
    /// Too much was asked.
    Throttled,
    /// Will pass by itself.
    Transient,
    /// A fault of this program.
    Bug,
}
