//! A small AMQP 1.0 service endpoint: frames, SASL, sessions, links.
//!
//! Bytes go in and come out ([`Connection`]); [`serve`] alone does I/O. What the links mean is up to a
//! [`Face`]. Every field of every performative is written, nulls too: Microsoft's Python client reads
//! them by index without looking at the length.

mod connection;
mod decode;
mod encode;
mod error;
mod frame;
mod link;
mod message;
mod performative;
mod sasl;
mod serve;
mod session;

pub(crate) use decode::{lookup, signed, text};
pub(crate) use encode::{Items, binary, described, described_map, descriptor};
pub(crate) use error::{AmqpError, condition};
pub(crate) use message::{Body, Message, answer};
pub(crate) use performative::{Attach, Role};
pub(crate) use sasl::Login;
pub(crate) use serve::serve;

use bytes::Bytes;

/// Names a link of a connection: its session's channel and its handle there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkId {
    /// The session.
    pub(crate) channel: u16,
    /// The link in it.
    pub(crate) handle: u32,
}

/// What a link that the peer reads has for it.
#[derive(Debug)]
pub(crate) enum Pulled {
    /// Nothing now; the connection is woken when there may be something.
    Nothing,
    /// An encoded message.
    Message(Bytes),
    /// The same; the face wants to know by this number what the peer says of it.
    Tracked(Bytes, u64),
    /// The link ends.
    Detach(AmqpError),
}

/// What a peer says of a message that it has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has taken it.
    Accepted,
    /// It does not want it, and nobody should.
    Rejected,
    /// It does not want it; others may.
    Released,
}

/// What a service makes of its links. One per connection; asked by it and by nobody else.
pub(crate) trait Face: Send {
    /// What this service calls itself.
    fn container(&self) -> &str;

    /// Judges a login by user and password.
    fn login(&mut self, login: &Login) -> bool;

    /// The peer wants a link. Nothing may be sent on it before this has returned.
    ///
    /// # Errors
    /// Why it gets none.
    fn attach(&mut self, link: LinkId, attach: &Attach) -> Result<(), AmqpError>;

    /// A message has arrived on a link that the peer writes to.
    ///
    /// # Errors
    /// Why it is rejected.
    fn message(&mut self, link: LinkId, message: Message) -> Result<(), AmqpError>;

    /// The next message for a link that the peer reads from. Without `credit` none may be taken, but
    /// the link may end.
    fn pull(&mut self, link: LinkId, credit: bool) -> Pulled;

    /// What the peer says of a message that was tracked.
    fn settled(&mut self, _link: LinkId, _number: u64, _outcome: Outcome) {}

    /// The link is gone.
    fn detached(&mut self, link: LinkId);
}
