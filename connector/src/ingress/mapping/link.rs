//! A link to a partition, with the mapping behind it.
//!
//! The link itself is not listened to while events of it are being mapped, and so the reader would not hear
//! that it is evicted. That takes milliseconds, unless messages end processes; then fewer events are taken
//! at once.
//!
//! What lies here counts as not yet received: the reader's position is behind it, nobody has admitted it. So
//! dropping a link loses nothing, wherever its events are. The work itself is a task, which goes on while the
//! reader looks after something else, and which is ended when the link is dropped.

use iothub::{Batches, Event, HubError};
use tokio_util::task::AbortOnDropHandle;

use super::{Mapped, Mapping, Portion};

/// Events taken from the link at once after some have ended processes: with one in ten of that kind, the
/// link is listened to every second, well within the 4 s that a new owner of the partition waits.
const FEW: usize = 20;

/// The events of a partition, mapped if the settings say how.
pub struct Link {
    link: Box<dyn Batches>,
    stage: Option<Stage>,
}

/// Events as they came, and what the program has made of them.
#[derive(Debug, Default)]
pub struct Batch {
    events: Vec<Event>,
    /// For each event what was made of it; empty without a program.
    mapped: Vec<Option<Mapped>>,
}

struct Stage {
    mapping: Mapping,
    work: Option<AbortOnDropHandle<Portion>>,
    /// Processes have ended over the last batch.
    careful: bool,
}

impl Link {
    /// Without a mapping events pass as they are.
    pub fn new(link: Box<dyn Batches>, mapping: Option<Mapping>) -> Self {
        let stage = mapping.map(|mapping| Stage {
            mapping,
            work: None,
            careful: false,
        });
        Self { link, stage }
    }

    /// As [`Batches::next`], and as safe to cancel. Gives a part of a batch as soon as it is mapped.
    ///
    /// # Errors
    /// As [`Batches::next`].
    pub async fn next(&mut self, max: usize) -> Result<Batch, HubError> {
        let Some(Stage {
            mapping,
            work,
            careful,
        }) = &mut self.stage
        else {
            let events = self.link.next(max).await?;
            return Ok(Batch {
                events,
                mapped: Vec::new(),
            });
        };
        let running = match work {
            Some(running) => running,
            None => {
                let max = if *careful { max.min(FEW) } else { max };
                let events = self.link.next(max).await?;
                *careful = false;
                work.insert(begin(mapping, events))
            }
        };
        let done = running.await;
        *work = None;
        let Portion {
            events,
            mapped,
            rest,
            ended,
        } = done.map_err(|error| HubError::TimedOut {
            what: format!("mapping events: {error}"),
        })?;
        *careful |= ended;
        if !rest.is_empty() {
            *work = Some(begin(mapping, rest));
        }
        Ok(Batch { events, mapped })
    }

    /// There are events from which the link itself is not asked for more.
    pub fn is_mapping(&self) -> bool {
        self.stage
            .as_ref()
            .is_some_and(|stage| stage.work.is_some())
    }

    /// As [`Batches::close`].
    ///
    /// # Errors
    /// As [`Batches::close`].
    pub async fn close(self) -> Result<(), HubError> {
        let Self { link, stage } = self;
        drop(stage);
        link.close().await
    }
}

fn begin(mapping: &Mapping, events: Vec<Event>) -> AbortOnDropHandle<Portion> {
    let mapping = mapping.clone();
    AbortOnDropHandle::new(tokio::spawn(async move { mapping.map(events).await }))
}

impl Batch {
    /// The events.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events, each with what was made of it.
    pub fn each(self) -> impl Iterator<Item = (Event, Option<Mapped>)> {
        let mapped = self.mapped.into_iter().chain(std::iter::repeat(None));
        self.events.into_iter().zip(mapped)
    }
}
