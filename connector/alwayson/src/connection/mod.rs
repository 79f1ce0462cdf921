//! An endpoint on one node of a platform: several WebSockets, login, binds, requests both ways.
//!
//! [`Node`] is the handle. Behind it one task ([`endpoint`]) owns all state; each WebSocket has a task of
//! its own ([`pipe`]) that connects, logs in, and carries frames. Nodes know nothing of each other.

mod bind;
mod binding;
mod endpoint;
mod error;
mod incoming;
mod node;
mod outbox;
mod pipe;
mod tls;

pub use bind::{BindState, DesiredBinds, GroupBind, GroupBindStrategy, NamesState};
pub use error::{Class, ConnectError, RequestError};
pub use incoming::Incoming;
pub use node::{Credentials, Link, Node, NodeSettings, NodeState, Timings};
pub use tls::TlsSettings;
