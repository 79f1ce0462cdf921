//! Where a secret or a certificate comes from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A value that lies in a file of the pod, usually a mounted key of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct File {
    /// Path of the file. Its content is used without white space at the end.
    pub file: PathBuf,
}

impl File {
    /// A value in the file at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { file: path.into() }
    }
}

/// The first 8 hexadecimal digits of the SHA-256 of `bytes`: names a version of something small,
/// where an accidental clash among a handful of versions is what matters.
#[must_use]
pub fn digest8(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
