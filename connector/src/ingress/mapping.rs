//! Telemetry bodies through the jq program of the settings, where there is one.
//!
//! A program may loop for ever or ask for any memory, and the interpreter can neither be interrupted nor
//! bounded. So programs run in processes of their own ([`worker`]), this executable started once more: each
//! has a limit on its memory, ends itself when a message takes too much processor time, and is started
//! again. Processor time and not the clock, since a pod that gets little of it must not pass good messages.
//! The message that was being worked on is the culprit and is passed; messages before it have their answers
//! already, and those after it go on with the next process. Where nothing proves the message to be the
//! cause (the process was killed from outside, or has got no processor for long), it is tried again first.
//!
//! The partitions share [`PROCESSES`] processes and take turns, a portion at a time; whoever has killed one
//! goes to the end of the queue. So a partition full of killers costs the others one killer's time a turn.
//! A portion is of a few hundred events, which go over the pipe together.
//!
//! Nothing here is received yet as far as the partition knows ([`link`]): when the link is dropped, so is
//! what lies here, and it is read again.

mod frame;
mod link;
mod process;
pub mod worker;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use connector_config::ReportClass;
use iothub::{Event, MessageSource};
use serde::de::IgnoredAny;
use tokio::{sync::Semaphore, time::sleep};

use super::body;
use crate::{
    metrics::Metrics,
    report::{Part, Reporter, Trouble},
};

pub use link::{Batch, Link};

use process::{Death, Process};

/// Processes at most. One maps more messages a second than a pod writes; the second serves the other
/// partitions while the first is busy with a message that will kill it.
const PROCESSES: usize = 2;
/// Bytes of one portion, about: some hundred ordinary messages, two of the largest. What lies in both
/// processes at a time stays small.
const PORTION: usize = 512 << 10;
/// How often a message is tried that was being worked on when a process ended for a reason of its own.
const TRIES: u32 = 3;
/// Pause before a process that could not be started is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What the program has made of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapped {
    /// Text that ought to be JSON.
    Text(String),
    /// Nothing is to be written.
    Nothing,
    /// It has failed; why.
    Failed(String),
}

/// The program of the settings and the processes that run it. Cheap to clone.
#[derive(Clone)]
pub struct Mapping(Arc<Shared>);

struct Shared {
    executable: PathBuf,
    program: String,
    turns: Semaphore,
    idle: Mutex<Vec<Process>>,
    metrics: Metrics,
    reporter: Reporter,
}

/// A part of a batch that is done, and what is not.
struct Portion {
    /// Events, at least one if there were any.
    events: Vec<Event>,
    /// What was made of each; `None` where the program has no say.
    mapped: Vec<Option<Mapped>>,
    rest: Vec<Event>,
    /// A process has ended over them.
    ended: bool,
}

impl Mapping {
    /// Starts nothing yet. `executable` answers to [`worker::ASKED`].
    #[must_use]
    pub fn new(executable: PathBuf, program: &str, metrics: Metrics, reporter: Reporter) -> Self {
        Self(Arc::new(Shared {
            executable,
            program: program.to_owned(),
            turns: Semaphore::new(PROCESSES),
            idle: Mutex::default(),
            metrics,
            reporter,
        }))
    }

    /// Maps the first of these events: as many as make a portion, or fewer if one of them has ended the
    /// process.
    async fn map(&self, mut events: Vec<Event>) -> Portion {
        let (mut request, mut places, mut mapped) = (frame::begin(), Vec::new(), Vec::new());
        for event in &events {
            if request.len() >= PORTION {
                break;
            }
            if let Some((about, text)) = question(event) {
                frame::put(&mut request, &about);
                frame::put(&mut request, text.as_bytes());
                places.push(mapped.len());
            }
            mapped.push(None);
        }
        let mut ended = false;
        if !places.is_empty() {
            frame::complete(&mut request);
            let answers;
            (answers, ended) = self.ask(&request, places.len()).await;
            if let Some(unanswered) = places.get(answers.len()) {
                mapped.truncate(*unanswered);
            }
            for (place, answer) in places.into_iter().zip(answers) {
                mapped[place] = Some(answer);
            }
        }
        let rest = events.split_off(mapped.len());
        Portion {
            events,
            mapped,
            rest,
            ended,
        }
    }

    /// Answers to the first of the messages of a request, at least one, and whether a process has ended.
    async fn ask(&self, request: &[u8], asked: usize) -> (Vec<Mapped>, bool) {
        let mut tries = 0;
        loop {
            // In turn: a semaphore is fair. It is never closed.
            let _turn = self.0.turns.acquire().await;
            let mut process = self.process().await;
            let mut answers = Vec::new();
            let Err(lost) = process.ask(request, asked, &mut answers).await else {
                self.idle().push(process);
                return (answers, tries > 0);
            };
            let death = process.end(lost).await;
            self.0.metrics.mapping_ended(death.label());
            match death {
                Death::Time | Death::Memory | Death::Fault => {
                    answers.push(Mapped::Failed(death.to_string()));
                }
                Death::Unclear(_) if answers.is_empty() => {
                    tries += 1;
                    tracing::warn!(%death, tries, "a message is mapped again");
                    if tries < TRIES {
                        continue;
                    }
                    answers.push(Mapped::Failed(death.to_string()));
                }
                // The next portion begins with the message in question.
                Death::Unclear(_) => {}
            }
            return (answers, true);
        }
    }

    /// A process that is ready, however long that takes: nothing is passed because there is none.
    async fn process(&self) -> Process {
        loop {
            if let Some(idle) = self.idle().pop() {
                return idle;
            }
            let Shared {
                executable,
                program,
                reporter,
                ..
            } = &*self.0;
            match Process::start(executable, program).await {
                Ok(process) => {
                    reporter.well(Part::Mapping);
                    return process;
                }
                Err(error) => {
                    let message = format!(
                        "the process that iotHub.messages.mapping runs in does not start: {error}; \
                         telemetry waits"
                    );
                    let trouble =
                        Trouble::new(ReportClass::Transient, "MappingUnavailable", message);
                    reporter.trouble(Part::Mapping, trouble);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said of a message, and its body as text; none where the program has no say: the hub's own
/// notices, and what cannot be read, which is told as without a program.
fn question(event: &Event) -> Option<(Vec<u8>, std::borrow::Cow<'_, str>)> {
    let Event {
        source: MessageSource::Telemetry,
        device: Some(device),
        module,
        properties,
        enqueued_ms,
        body,
        content_type,
        content_encoding,
        ..
    } = event
    else {
        return None;
    };
    let text = body::text(body, content_type.as_deref(), content_encoding.as_deref()).ok()?;
    // jaq reads more than JSON.
    body::parse::<IgnoredAny>(&text).ok()?;
    let about = serde_json::to_vec(&(device, module, properties, enqueued_ms)).ok()?;
    Some((about, text))
}
