//! What the operator answers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most pods that are listed one by one: enough to see which one is in trouble, and a bound on the size
/// of the resource.
pub const MAX_MEMBERS: usize = 20;

/// What is known of the connector. Written by the operator only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureIotHubConnectorStatus {
    /// Generation of the resource that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` is the summary; `ConfigValid`, `ReferencesResolved`, `Available` and `Progressing` say
    /// where it comes from; `Paused` whether somebody keeps the operator from writing. `OperatorConflict` is
    /// there only if a second operator sees the resource, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The operator that manages the resource, as `<namespace>/<name>` of its Lease. Another one writes nothing
    /// but the condition `OperatorConflict`, until the annotation `iot-connectors.dev/operator` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Pods that exist now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Label selector of the pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The routing group that the pods use, as the first of them resolved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_group: Option<String>,
    /// Pods that have bound the hub's Thing on the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_members: Option<i32>,
    /// How many of the hub's partitions are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<PartitionStatus>,
    /// What each pod says of itself; at most 20, those in trouble first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"), length(max = 20))]
    pub members: Vec<MemberStatus>,
    /// The latest trouble, kept after it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// How many of the hub's partitions are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionStatus {
    /// Partitions that some pod reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned: Option<i32>,
    /// Partitions that the hub has, once a pod knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i32>,
    /// Both as text, for example `4/4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

/// What one pod says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The pod's own Thing on the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thing: Option<String>,
    /// How far the pod has come: `ProvingHub`, `Connecting`, `Binding`, `Running` or `Draining`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Nodes of the platform on which the hub's Thing is bound, of those there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Partitions that the pod reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<String>,
    /// What is wrong, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The latest trouble.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastError {
    /// What was wrong, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was wrong and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}
