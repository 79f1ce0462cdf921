//! Command → operation on the hub.
//!
//! Each operation knows whether it may be repeated: a message, a method or a job only if the hub provably
//! has not taken it, everything else as well when nobody can tell.

mod bucket;
mod coalesce;
mod gate;
mod job;
mod limit;
mod list;
mod mark;
mod message;
mod method;
mod quota;
mod registry;
mod search;
mod throttle;
mod twin;

use std::{sync::Arc, time::Duration};

use alwayson::{InfoTable, Value};
use connector_config::Commands;
use iothub::{C2dSender, HubError, HubRest, MethodAnswer};
use tokio::time::Instant;

use super::command::{Command, Refusal};
use crate::member::Members;
use coalesce::Coalescer;
use limit::Gates;
pub use mark::Mark;
use quota::Quota;
pub use quota::Size;

/// The ways to the hub, each with the rights that it needs. Cheap to clone.
#[derive(Clone)]
pub struct Ways {
    /// Cloud-to-device messages.
    pub c2d: C2dSender,
    /// Methods, twins and queries.
    pub rest: HubRest,
    /// Devices' identities, and jobs.
    pub registry: HubRest,
}

/// The hub, as commands are carried out on it. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    /// How it is reached.
    pub ways: Ways,
    /// As it is set.
    settings: Arc<Commands>,
    /// Whose messages they are, in their ids.
    mark: Mark,
    gates: Arc<Gates>,
    lanes: Coalescer,
}

/// What came of a command that was carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// There is nothing to say.
    Nothing,
    /// A text, such as the id of a job.
    Text(String),
    /// The value of a property.
    Property {
        /// Its name.
        name: String,
        /// Its value.
        value: Value,
    },
    /// What a device's method answered, well or not.
    Method(MethodAnswer),
    /// A table.
    Table(InfoTable),
}

/// Why a command was not carried out, as far as is known.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The hub, or the way to it.
    Hub(HubError),
    /// It is known without asking, or from what the hub said.
    Refused(Refusal),
    /// Some properties were written before one failed.
    Partly {
        /// How many.
        done: usize,
        /// Of how many.
        all: usize,
        /// How the next one failed.
        of: Box<Failure>,
    },
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Hub {
    /// The hub by these ways; of its size, if that is known, `members` have equal parts.
    #[must_use]
    pub fn new(
        ways: Ways,
        settings: Commands,
        mark: Mark,
        size: Option<Size>,
        members: Members,
    ) -> Self {
        let quota = size.map(|size| Quota::new(size, members));
        Self {
            ways,
            settings: Arc::new(settings),
            mark,
            gates: Arc::new(Gates::new(quota)),
            lanes: Coalescer::default(),
        }
    }

    /// Carries a command out, by `deadline`.
    ///
    /// # Errors
    /// [`Failure`]; what the hub may have done all the same, [`HubError::taken`] tells.
    pub(super) async fn carry_out(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<Done, Failure> {
        match command {
            Command::Write { device, changes } => {
                message::write(self, &device, changes, deadline).await
            }
            Command::Send { device, body } => {
                message::send(self, &device, &body, None, deadline).await?;
                Ok(Done::Nothing)
            }
            Command::Read {
                twin,
                part,
                name,
                property,
            } => twin::read(self, &twin, part, &name, property, deadline).await,
            Command::Invoke {
                device,
                module,
                method,
                payload,
            } => {
                let module = module.as_deref();
                method::invoke(self, &device, module, &method, &payload, deadline).await
            }
            Command::Registry { action, device } => {
                registry::carry_out(self, action, &device, deadline).await
            }
            Command::Job(job) => job::carry_out(self, job, deadline).await,
            // Answered without the hub.
            Command::Import(_) | Command::Edge(_) => Ok(Done::Nothing),
        }
    }
}

/// Time that is left.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
