//! Device → platform:
//! `partition ─► decode ─► map ─► lane ─► node ─► low-water mark ─► checkpoint`.
//!
//! `decode` reads the body ([`body`]) of what devices say and of the hub's own notices ([`notice`]); `map`
//! turns it into values ([`value`], [`date_time`]) of the types that the Thing defines ([`definition`]).
//!
//! Where the settings have a program in jq, it stands before `decode` ([`mapping`]).
//!
//! One task per partition ([`partition`]) owns everything of that partition: the link, the lanes, the
//! low-water mark and the claim. Nothing is shared between partitions but the platform's nodes.

mod body;
mod date_time;
mod decode;
mod definition;
mod delivery;
mod lane;
mod letter;
mod low_water;
mod map;
pub mod mapping;
mod memory;
mod notice;
mod partition;
mod pass;
mod quality;
mod quota;
mod readers;
mod request;
mod said;
mod shadow;
mod survey;
mod twin;
mod value;

pub use definition::Shapes;
pub use letter::{BlobShelf, DeadLetters, FileShelf, Shelf};
pub use low_water::Mark;
pub use memory::Memory;
pub use pass::Passes;
pub use readers::Readers;
pub use survey::Survey;

/// What every partition's task works with.
pub struct Ingress {
    /// Where events come from.
    pub source: std::sync::Arc<dyn iothub::EventSource>,
    /// Where twins are read from.
    pub twins: std::sync::Arc<dyn iothub::TwinReader>,
    /// How messages become values.
    pub messages: std::sync::Arc<connector_config::Messages>,
    /// What is made of telemetry bodies before that, if the settings say so.
    pub mapping: Option<mapping::Mapping>,
    /// Where values go.
    pub platform: std::sync::Arc<dyn crate::platform::Destination>,
    /// By which service values are written.
    pub write: connector_config::WriteService,
    /// Where to begin in a partition that has never been checkpointed.
    pub start: connector_config::StartPosition,
    /// Events a second that are read from one partition while it is far behind; as fast as can be
    /// written, if none.
    pub catch_up: Option<std::num::NonZeroU32>,
    /// What all partitions hold.
    pub survey: Survey,
    /// Definitions that Things share.
    pub shapes: Shapes,
    /// What the partitions share of this process's memory.
    pub memory: Memory,
    /// Where passed events are reported.
    pub passes: Passes,
    /// Where the letters of passed events go, if they are wanted.
    pub letters: Option<DeadLetters>,
    /// What is counted.
    pub metrics: crate::metrics::Metrics,
    /// Where trouble is told.
    pub reporter: crate::report::Reporter,
}
