//! ThingWorx AlwaysOn, as spoken between the platform and what connects devices to it.
//!
//! Two layers, one on top of the other:
//! * [`codec`] has no I/O: bytes in, messages out, and back. It holds what it has decoded in the wire's
//!   own packed form, so hostile input cannot make it allocate more than a small multiple of its size.
//! * [`connection`] keeps an endpoint on one node of a platform: several WebSockets, login, binds,
//!   requests both ways, reconnection.
//!
//! The wire format is stated nowhere by PTC; it is taken from the behaviour of the published Edge SDKs
//! (C SDK 2.2.1, Java SDK 6.2.0).
//!
//! ```
//! use alwayson::{Header, Message, Request, Value};
//!
//! let write = Request::write("Dev-001", "setpoint", Value::Number(30.0));
//! let message = Message { header: Header::new(7), body: write.into() };
//! let bytes = message.encode()?;
//! assert_eq!(Message::decode(&bytes)?, message);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod codec;
pub mod connection;
pub mod json;

pub use codec::*;
pub use connection::*;
