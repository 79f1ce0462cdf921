//! Azure Storage: one container of an account, reached with the account's connection string.

mod connection_string;
mod container;
mod error;

pub use connection_string::StorageConnectionString;
pub use container::{Blob, Container, Wrote};
pub use error::StorageError;
