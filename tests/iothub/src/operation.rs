//! What services ask the hub for, in the classes for which it has limits of its own.

use serde::{Deserialize, Serialize};

/// A class of operations. Source: Microsoft Learn, "IoT Hub quotas and throttling".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Direct methods.
    Methods,
    /// Reading twins.
    TwinReads,
    /// Changing twins.
    TwinUpdates,
    /// The identity registry.
    Registry,
    /// Cloud-to-device messages.
    C2d,
    /// Queries.
    Queries,
    /// Making, reading, listing and cancelling jobs.
    Jobs,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Methods,
        Self::TwinReads,
        Self::TwinUpdates,
        Self::Registry,
        Self::C2d,
        Self::Queries,
        Self::Jobs,
    ];
}
