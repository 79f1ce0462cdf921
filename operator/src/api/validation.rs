//! What the schema and the API server's rules cannot say.

use connector_config::{DeadLetter, IotHub, RoutingGroup, ThingName, Thingworx};

use super::{
    Asked, AzureIotHubConnectorSpec, CertificateSource, CheckpointStore, Pod, SecretSource,
    condition::Reason,
};

/// A spec that can be rendered. Only [`validate`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// Pods wanted.
    pub replicas: i32,
    /// The Thing that stands for the hub.
    pub hub_thing: ThingName,
    /// The routing group, if the user gave one.
    pub routing_group: Option<RoutingGroup>,
    /// The way to the platform.
    pub thingworx: Thingworx<SecretSource, CertificateSource>,
    /// The way to the hub.
    pub iot_hub: IotHub<SecretSource, CertificateSource>,
    /// Where positions are kept.
    pub checkpoints: CheckpointStore,
    /// How the pods run.
    pub pod: Pod,
}

/// Why a spec cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidationError {
    /// Somebody wrote null, where leaving out means something and null does not.
    #[error(
        "spec.routingGroup is null: give a name, or remove the field to use the hub Thing's own \
         routing group; the running pods are left as they are"
    )]
    RoutingGroupNull,
    /// A value that cannot be.
    #[error("spec.{field} {what}")]
    Field {
        /// Path of the field below `spec`.
        field: String,
        /// What is wrong with it.
        what: String,
    },
}

impl ValidationError {
    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::RoutingGroupNull => Reason::RoutingGroupNull,
            Self::Field { .. } => Reason::InvalidSpec,
        }
    }
}

/// Checks a spec.
///
/// # Errors
/// The first thing that is wrong, in words for the person who wrote the spec.
pub fn validate(spec: &AzureIotHubConnectorSpec) -> Result<Validated, ValidationError> {
    let AzureIotHubConnectorSpec {
        replicas,
        hub_thing_name,
        routing_group,
        thingworx,
        iot_hub,
        checkpoints,
        pod,
    } = spec.clone();
    let field = |field: &str, what: &dyn std::fmt::Display| ValidationError::Field {
        field: field.to_owned(),
        what: what.to_string(),
    };
    if replicas < 0 {
        return Err(field("replicas", &"must not be negative"));
    }
    let hub_thing = ThingName::new(hub_thing_name).map_err(|what| field("hubThingName", &what))?;
    let routing_group = match routing_group {
        Asked::Absent => None,
        Asked::Null => return Err(ValidationError::RoutingGroupNull),
        Asked::Given(name) => {
            Some(RoutingGroup::new(name).map_err(|what| field("routingGroup", &what))?)
        }
    };
    let below = |section: &'static str| {
        move |(name, what): (String, String)| ValidationError::Field {
            field: format!("{section}.{name}"),
            what: format!("is not right: {what}"),
        }
    };
    thingworx.check().map_err(below("thingworx"))?;
    iot_hub.check().map_err(below("iotHub"))?;
    if let Some(DeadLetter::File(_)) = iot_hub.dead_letter {
        let what = "is for a single process without Kubernetes, since a pod's files go with the pod; \
                    give iotHub.deadLetter.azureBlob";
        return Err(field("iotHub.deadLetter.file", &what));
    }
    let checkpoints = CheckpointStore::try_from(checkpoints)
        .map_err(|(name, what): (String, String)| field(&name, &format!("is not right: {what}")))?;
    let pod = pod.unwrap_or_default();
    pod.check()
        .map_err(|(name, what)| field(&format!("pod.{name}"), &what))?;
    Ok(Validated {
        replicas,
        hub_thing,
        routing_group,
        thingworx,
        iot_hub,
        checkpoints,
        pod,
    })
}
