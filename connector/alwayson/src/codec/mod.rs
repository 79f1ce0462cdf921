//! The wire format, without I/O.

mod base_type;
mod bind;
mod entity;
mod error;
mod infotable;
mod message;
mod multipart;
mod request;
mod status;
mod strings;
mod value;
mod wire;

pub use base_type::{BaseType, UnknownBaseType};
pub use bind::{Bind, Claim, Claims, Gateway};
pub use entity::{Characteristic, EntityType};
pub use error::{DecodeError, EncodeError, Fault};
pub use infotable::{Cells, Field, InfoTable, RowMismatch};
pub use message::{Body, Header, Message};
pub use multipart::{Assembler, CHUNK, Limits, is_part, split};
pub use request::{Method, Request, Response};
pub use status::Status;
pub use strings::Names;
pub use value::{Location, Value};
