//! Device → platform:
//! `partition ─► decode ─► map ─► lane ─► node ─► low-water mark ─► checkpoint`.
//!
//! One task per partition ([`partition`]) owns everything of that partition: the link, the lanes, the
//! low-water mark and the claim. Nothing is shared between partitions but the platform's nodes.

mod decode;
mod definition;
mod delivery;
mod lane;
mod low_water;
mod map;
mod partition;
mod pass;
mod readers;

pub use low_water::Mark;
pub use pass::Passes;
pub use readers::Readers;

/// What every partition's task works with.
#[derive(Clone)]
pub struct Ingress {
    /// Where events come from.
    pub source: std::sync::Arc<dyn iothub::EventSource>,
    /// Where values go.
    pub platform: crate::platform::Platform,
    /// Where to begin in a partition that has never been checkpointed.
    pub start: connector_config::StartPosition,
    /// Where passed events are reported.
    pub passes: Passes,
    /// What is counted.
    pub metrics: crate::metrics::Metrics,
    /// Where trouble is told.
    pub reporter: crate::report::Reporter,
}
