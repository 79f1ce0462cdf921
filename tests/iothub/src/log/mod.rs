//! The hub's built-in event stream: append-only partitions, and who reads them.
//!
//! Nothing here knows of AMQP. A [`Partition`] is a bounded log with positions and readers; readers
//! are told through a [`tokio::sync::Notify`] that there is something to do, and fetch it themselves.

mod hash;
mod partition;
mod position;
mod reader;

pub use hash::partition_of;
pub use partition::{Last, NewEvent, Origin, Partition, PartitionView, ReaderView, Record};
pub use position::{BadSelector, Position};
pub use reader::{Epoch, OpenError, Reader, ReaderRequest, Stolen};

#[cfg(test)]
mod tests;
