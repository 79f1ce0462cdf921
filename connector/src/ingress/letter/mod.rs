//! Dead letters: what can never be written is kept with the reason, where the settings name a place.
//!
//! [`Letter`] is what is kept and its form; [`DeadLetters`] takes letters and stores them in batches on a
//! [`Shelf`]: blobs of Azure Storage ([`BlobShelf`]) or a local file ([`FileShelf`]).

mod blob;
mod file;
mod form;
mod post;

pub use blob::BlobShelf;
pub use file::FileShelf;
pub use form::{Letter, Passed, size};
pub use post::DeadLetters;

use async_trait::async_trait;
use bytes::Bytes;

use crate::report::Trouble;

/// Where letters are stored.
#[async_trait]
pub trait Shelf: Send {
    /// Shows whether letters can be stored, without one. `false`: only storing one shows it.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    async fn prove(&mut self) -> Result<bool, Trouble>;

    /// Stores letters, lines of JSON. Asked again, after a failure, with some of the same: each may be
    /// there twice, but none is there in part.
    ///
    /// # Errors
    /// What is wrong, and what to do. The letters may have been stored all the same.
    async fn put(&mut self, letters: Bytes) -> Result<(), Trouble>;
}
