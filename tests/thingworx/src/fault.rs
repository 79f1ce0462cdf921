//! Faults that can be switched on over REST.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// What is to go wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", deny_unknown_fields)]
pub enum Fault {
    /// Nothing is read or written for a while; connections stay.
    #[serde(rename_all = "camelCase")]
    Freeze {
        /// Which node; all if left out.
        node: Option<usize>,
        /// For how long; 0 ends it.
        ms: u64,
    },
    /// All connections are closed; new ones are accepted.
    Reset {
        /// Which node; all if left out.
        node: Option<usize>,
    },
    /// The node leaves the cluster: all connections are closed and none are accepted.
    Leave {
        /// Which node; all if left out.
        node: Option<usize>,
    },
    /// It comes back.
    Return {
        /// Which node; all if left out.
        node: Option<usize>,
    },
    /// Every request of an edge is answered so much later.
    Delay {
        /// Which node; all if left out.
        node: Option<usize>,
        /// By how much; 0 ends it.
        ms: u64,
    },
    /// Requests of edges are carried out but not answered.
    LoseAnswers {
        /// Which node; all if left out.
        node: Option<usize>,
        /// Begin or end.
        on: bool,
    },
    /// Every request of an edge fails with 0xA0.
    FailAll {
        /// Which node; all if left out.
        node: Option<usize>,
        /// Begin or end.
        on: bool,
    },
    /// All sessions end: what edges ask is answered with 0xA1 until they log in again.
    #[serde(rename_all = "camelCase")]
    EndSessions {
        /// Which node; all if left out.
        node: Option<usize>,
    },
    /// Every request to this Thing fails with 0xA0.
    FailThing {
        /// The Thing.
        thing: String,
        /// Begin or end.
        on: bool,
    },
    /// Edges may not call this service of any entity: it fails with 0xA0 and says so.
    Forbid {
        /// The service.
        service: String,
        /// Begin or end.
        on: bool,
    },
}

impl Fault {
    /// The nodes it is meant for, out of so many.
    #[must_use]
    pub fn nodes(&self, of: usize) -> std::ops::Range<usize> {
        match self {
            Self::Freeze { node, .. }
            | Self::Reset { node }
            | Self::Leave { node }
            | Self::Return { node }
            | Self::Delay { node, .. }
            | Self::LoseAnswers { node, .. }
            | Self::FailAll { node, .. }
            | Self::EndSessions { node } => match node {
                Some(node) => *node..(*node + 1).min(of),
                None => 0..of,
            },
            Self::FailThing { .. } | Self::Forbid { .. } => 0..0,
        }
    }
}

/// What goes wrong on one node now.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Until when nothing moves.
    pub frozen_until: Option<Instant>,
    /// The node has left.
    pub away: bool,
    /// Answers come so much later.
    pub delay: Duration,
    /// Answers are lost.
    pub lose_answers: bool,
    /// Everything fails.
    pub fail_all: bool,
}
