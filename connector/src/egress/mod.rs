//! Platform → device: `node ─► request ─► command ─► hub operation ─► response`.
//!
//! [`command`] is where an AlwaysOn request becomes a typed [`command::Command`], [`operation`] carries it
//! to the hub, [`outcome`] makes the response; [`edge`] answers what concerns the connector itself. Nothing is ever answered from a pod's memory: requests
//! reach a random pod.

mod command;
mod device;
mod edge;
mod feedback;
mod newcomer;
mod operation;
mod outcome;
mod right;
mod service;
mod table;

pub use command::OwnNames;
pub use device::Devices;
pub use edge::Edge;
pub use feedback::Feedback;
pub use newcomer::Newcomers;
pub use operation::{Hub, Mark, Size, Ways};
pub use right::RegistryRights;
pub use service::{Requests, Server};
