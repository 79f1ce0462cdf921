//! The resource and its spec.
//!
//! Field docs are what `kubectl explain` prints, so they speak to somebody who writes a resource.
// `KubeSchema` derives a private twin of the struct, with its visibility.
#![allow(unreachable_pub)]

use connector_config::{IotHub, Thingworx};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{Asked, AzureIotHubConnectorStatus, CertificateSource, Checkpoints, Pod, SecretSource};

/// What the connector does: which Thing, which platform, which hub.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "iot-connectors.dev",
    version = "v1alpha1",
    kind = "AzureIotHubConnector",
    plural = "azureiothubconnectors",
    singular = "azureiothubconnector",
    shortname = "aihc",
    category = "iot-connectors",
    namespaced,
    status = "AzureIotHubConnectorStatus",
    derive = "PartialEq",
    doc = "Connects one Azure IoT Hub to a ThingWorx cluster. Runs a number of pods that share the \
           work: telemetry of the hub's devices becomes property writes on their Things; property \
           writes and service calls on the Things become messages, methods and twin updates on the \
           devices.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "READY",
        type_ = "string",
        description = "Whether all wanted pods are bound on the platform",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        description = "Why it is ready or not",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "REPLICAS",
        type_ = "integer",
        description = "Number of pods wanted",
        json_path = ".spec.replicas"
    ),
    printcolumn(
        name = "ROUTING GROUP",
        type_ = "string",
        description = "Name under which the pods bind the hub's Thing together",
        json_path = ".status.routingGroup"
    ),
    printcolumn(
        name = "PARTITIONS",
        type_ = "string",
        description = "Partitions of the hub that are read, of those there are",
        json_path = ".status.partitions.summary"
    ),
    printcolumn(
        name = "MESSAGE",
        type_ = "string",
        description = "What is wrong and what to do",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(
        name = "AGE",
        type_ = "date",
        description = "Time since the resource was made",
        json_path = ".metadata.creationTimestamp"
    ),
    // Leaves room for `-connector`, the template's hash and the pod's own suffix within the 63
    // characters of a host name.
    validation = Rule::new("size(self.metadata.name) <= 40").message(
        "the name must have at most 40 characters, so that the names of the connector's pods fit"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    // On the whole spec, because a rule on a field is not asked when the field is removed.
    validation = Rule::new(
        "oldSelf.replicas == 0 || (self.hubThingName == oldSelf.hubThingName && \
         (has(self.routingGroup) ? self.routingGroup : self.hubThingName) == \
         (has(oldSelf.routingGroup) ? oldSelf.routingGroup : oldSelf.hubThingName))"
    )
    .message(
        "hubThingName and routingGroup can only change while the connector is scaled to 0, because \
         pods of two groups must not serve one hub Thing: first run kubectl scale \
         aihc/<name> --replicas=0, then change them, then scale up again"
    ),
    validation = Rule::new(
        "(has(self.thingworx.endpoints) && size(self.thingworx.endpoints) > 0) != \
         has(self.thingworx.service)"
    )
    .message("give either thingworx.endpoints (at least one) or thingworx.service, not both"),
    validation = Rule::new(
        "!has(self.checkpoints) || \
         has(self.checkpoints.kubernetes) != has(self.checkpoints.azureBlob)"
    )
    .message(
        "give exactly one of checkpoints.kubernetes and checkpoints.azureBlob; a kubernetes that an \
         earlier version filled in is removed by kubernetes: null beside azureBlob"
    )
)]
pub struct AzureIotHubConnectorSpec {
    /// Number of connector pods. Default 1. Use 2 or more so that nothing is refused while a node is
    /// drained; partitions and requests are shared among all pods. 0 stops the connector and keeps its
    /// checkpoints. This is the field that `kubectl scale` and autoscalers change.
    #[serde(default = "one_replica")]
    #[schemars(range(min = 0))]
    pub replicas: i32,

    /// Name of the Thing that stands for the IoT Hub on the platform. It must exist and allow that
    /// several remote processes bind it (Thing Shape `MultiBindRemoteThing`). Can only change while
    /// `replicas` is 0.
    #[schemars(length(min = 1, max = 127), regex(pattern = r"^\S(.*\S)?$"))]
    pub hub_thing_name: String,

    /// Name under which all pods bind the hub's Thing together; the platform sends each request to one
    /// pod of the group. Leave it out to use the name that the hub Thing's configuration gives, or
    /// else `hubThingName`. It must not be null or empty: a connector without a group would receive no
    /// requests. Can only change while `replicas` is 0.
    #[serde(default, skip_serializing_if = "Asked::is_absent")]
    #[schemars(
        with = "Option<String>",
        length(min = 1, max = 127),
        regex(pattern = r"^\S(.*\S)?$")
    )]
    pub routing_group: Asked<String>,

    /// How the pods reach the ThingWorx cluster.
    pub thingworx: Thingworx<SecretSource, CertificateSource>,

    /// How the pods reach the Azure IoT Hub.
    pub iot_hub: IotHub<SecretSource, CertificateSource>,

    /// Where the position in each partition of the hub is kept. Default: in Leases of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Checkpoints")]
    pub checkpoints: Option<Checkpoints>,

    /// How the pods run: image, resources, placement. Everything has a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
}

const fn one_replica() -> i32 {
    1
}
