//! Platform → device: `node ─► request ─► command ─► hub operation ─► response`.
//!
//! [`command`] is where an AlwaysOn request becomes a typed [`command::Command`], [`operation`] carries it
//! to the hub, [`outcome`] makes the response. Nothing is ever answered from a pod's memory: requests
//! reach a random pod.

mod command;
mod operation;
mod outcome;
mod own;
mod service;

pub use command::OwnNames;
pub use operation::Hub;
pub use service::{Requests, Server};
