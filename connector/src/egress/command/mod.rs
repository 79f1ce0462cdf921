//! AlwaysOn request → command. Pure.

mod device;
mod edge;
mod hub;
mod params;
mod twin;

use alwayson::{Characteristic, EntityType, Method, Request, Status};
use connector_config::ThingName;
use serde_json::Value as Json;

use crate::{identity::MemberId, import::Asked, platform::HUB};

pub use device::Change;
pub use edge::{EdgeService, LogQuery};
pub use hub::{Job, Registry, Schedule, Task};
pub(super) use twin::ETAG;
pub use twin::{TwinChange, TwinOf, TwinPart};

/// What the platform may ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Property writes: messages to the device and changes of its twin, one after the other.
    Write {
        /// The device.
        device: String,
        /// What is changed.
        changes: Vec<Change>,
    },
    /// A property read: from the twin, the only place where the hub keeps values.
    Read {
        /// Whose twin.
        twin: TwinOf,
        /// Part of the twin that the property stands for; without, it is a key of what is reported.
        part: Option<TwinPart>,
        /// Its name, without the module's.
        name: String,
        /// Its name as it was asked for.
        property: String,
    },
    /// A message to a device.
    Send {
        /// The device.
        device: String,
        /// Its body.
        body: Json,
    },
    /// A remote service: a direct method.
    Invoke {
        /// The device.
        device: String,
        /// The module of it, for `module::method`.
        module: Option<String>,
        /// Name of the method.
        method: String,
        /// The inputs as an object.
        payload: Json,
    },
    /// A device's identity in the hub.
    Registry {
        /// What is done with it.
        action: Registry,
        /// The device.
        device: String,
    },
    /// Jobs of the hub.
    Job(Job),
    /// Devices are imported.
    Import(Asked),
    /// What every edge answers for the names that it has bound.
    Edge(EdgeService),
}

impl Command {
    /// What it is counted as: a closed set.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Write { .. } | Self::Send { .. } => "message",
            Self::Read { .. } => "twin",
            Self::Invoke { .. } => "method",
            Self::Registry { .. } => "registry",
            Self::Job(_) => "job",
            Self::Import(_) => "import",
            Self::Edge(_) => "edge",
        }
    }

    /// The device that it is for, if it is for one.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Write { device, .. }
            | Self::Send { device, .. }
            | Self::Invoke { device, .. }
            | Self::Registry { device, .. } => Some(device),
            Self::Read { twin, .. } => Some(&twin.device),
            Self::Job(_) | Self::Import(_) | Self::Edge(_) => None,
        }
    }
}

/// A request that is answered without asking the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The answer's status.
    pub status: Status,
    /// Why, in words an administrator understands.
    pub reason: String,
}

/// What was read, or why it cannot be.
type Refused<T> = Result<T, Refusal>;

fn refuse<T>(status: Status, reason: impl Into<String>) -> Refused<T> {
    Err(Refusal {
        status,
        reason: reason.into(),
    })
}

fn bad<T>(reason: impl Into<String>) -> Refused<T> {
    refuse(Status::BAD_REQUEST, reason)
}

/// Names that are the connector's own, not devices.
#[derive(Debug, Clone)]
pub struct OwnNames {
    /// The member's own Thing.
    pub member: MemberId,
    /// The hub Thing.
    pub hub: ThingName,
}

impl OwnNames {
    pub(super) fn contains(&self, name: &str) -> bool {
        name == self.member.as_str() || name == self.hub.as_str() || name == HUB
    }
}

/// Reads a request. Any Thing name is accepted, not only bound ones: the platform redirects.
///
/// # Errors
/// [`Refusal`] if nothing on the hub corresponds to it.
pub fn command(request: &Request, own: &OwnNames) -> Result<Command, Refusal> {
    if request.entity_type != EntityType::THINGS {
        let what = format!(
            "the connector serves Things, not {}",
            request.entity_type.name()
        );
        return refuse(Status::NOT_FOUND, what);
    }
    // A Thing with an identifier is addressed by it, and the device is named so.
    let device = request.entity.strip_prefix('*').unwrap_or(&request.entity);
    let of_own = own.contains(device);
    match (request.method, request.characteristic) {
        (Method::Post, Characteristic::SERVICES) => {
            let own_thing = device == own.member.as_str();
            match edge::service(request, own_thing)? {
                Some(service) => Ok(Command::Edge(service)),
                None if device == HUB => hub::service(request),
                None if of_own => {
                    let what = format!("no service {} on {device}", request.target);
                    refuse(Status::NOT_FOUND, what)
                }
                None => device::invoke(device, request),
            }
        }
        _ if of_own => refuse(
            Status::NOT_FOUND,
            format!("{device} has no remote properties"),
        ),
        (Method::Put, Characteristic::PROPERTIES) => device::write(device, request),
        (Method::Get, Characteristic::PROPERTIES) => device::read(device, request),
        (method, side) => refuse(
            Status::METHOD_NOT_ALLOWED,
            format!("{method:?} of {} is nothing a device can do", side.name()),
        ),
    }
}

#[cfg(test)]
mod tests;
