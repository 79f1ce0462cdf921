//! The claim of a partition, and the mark that its store has. Storing goes on beside the reading: a store
//! that does not answer holds nothing up.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};

use crate::{
    claim::{Claim, ClaimError},
    ingress::Mark,
    metrics::Metrics,
};

/// One call to the store, with what it does again inside.
const CALL: Duration = Duration::from_secs(30);

/// What has become of storing a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is stored, or was stored already.
    Yes,
    /// The store cannot be used; the next mark is stored instead.
    Failed,
    /// The claim belongs to somebody else.
    ClaimLost,
}

impl Stored {
    fn label(self) -> &'static str {
        match self {
            Self::Yes => "stored",
            Self::Failed => "failed",
            Self::ClaimLost => "lost",
        }
    }
}

/// Keeps the claim, and the newest mark in its store.
pub struct Checkpoints {
    state: State,
    /// The last mark that the store took.
    stored: Option<Mark>,
    partition: String,
    metrics: Metrics,
}

enum State {
    Idle(Box<dyn Claim>),
    Storing(BoxFuture<'static, Done>),
    /// Between the two, inside a function.
    Moving,
}

struct Done {
    claim: Box<dyn Claim>,
    mark: Mark,
    saved: Result<(), ClaimError>,
    took: Duration,
}

impl Checkpoints {
    /// Keeps `claim`, whose store has the mark that the claim tells.
    pub fn new(claim: Box<dyn Claim>, metrics: Metrics) -> Self {
        Self {
            stored: claim.mark(),
            partition: claim.partition().as_str().to_owned(),
            state: State::Idle(claim),
            metrics,
        }
    }

    /// The positions known so far mean nothing any more.
    pub fn forget(&mut self) {
        self.stored = None;
    }

    /// Begins to store `mark`, unless the store has it or is busy.
    pub fn begin(&mut self, mark: Option<&Mark>) {
        let Some(mark) = mark.filter(|mark| Some(*mark) != self.stored.as_ref()) else {
            return;
        };
        match std::mem::replace(&mut self.state, State::Moving) {
            State::Idle(claim) => self.state = State::Storing(store(claim, mark.clone())),
            busy => self.state = busy,
        }
    }

    /// Waits until what is being stored is stored, or not; for ever if nothing is. Cancel-safe.
    pub async fn done(&mut self) -> Stored {
        let State::Storing(storing) = &mut self.state else {
            return std::future::pending().await;
        };
        let Done {
            claim,
            mark,
            saved,
            took,
        } = storing.await;
        self.state = State::Idle(claim);
        let stored = match saved {
            Ok(()) => {
                self.stored = Some(mark);
                Stored::Yes
            }
            Err(ClaimError::Lost) => Stored::ClaimLost,
            Err(ClaimError::Unavailable(error)) => {
                let partition = self.partition.as_str();
                tracing::warn!(
                    partition,
                    error,
                    "the checkpoint could not be stored; going on"
                );
                Stored::Failed
            }
        };
        self.metrics
            .checkpointed(&self.partition, stored.label(), took);
        stored
    }

    /// Stores `mark` and waits for that.
    pub async fn store(&mut self, mark: &Mark) -> Stored {
        self.idle().await;
        self.begin(Some(mark));
        match self.state {
            State::Storing(_) => self.done().await,
            State::Idle(_) | State::Moving => Stored::Yes,
        }
    }

    /// Whether the claim still names us, as its store says.
    pub async fn confirm(&mut self) -> Result<(), ClaimError> {
        match self.idle().await {
            Some(claim) => within(claim.confirm()).await,
            None => Err(ClaimError::Lost),
        }
    }

    /// Stores the exact next position and lets go.
    pub async fn release(mut self, mark: Option<&Mark>) -> Result<(), ClaimError> {
        match self.idle().await {
            Some(claim) => within(claim.release(mark)).await,
            None => Err(ClaimError::Lost),
        }
    }

    /// The claim, once nothing is being stored.
    async fn idle(&mut self) -> Option<&mut Box<dyn Claim>> {
        if matches!(self.state, State::Storing(_)) {
            self.done().await;
        }
        match &mut self.state {
            State::Idle(claim) => Some(claim),
            State::Storing(_) | State::Moving => None,
        }
    }
}

fn store(mut claim: Box<dyn Claim>, mark: Mark) -> BoxFuture<'static, Done> {
    Box::pin(async move {
        let begun = Instant::now();
        let saved = within(claim.save(&mark)).await;
        Done {
            claim,
            mark,
            saved,
            took: begun.elapsed(),
        }
    })
}

async fn within(call: impl Future<Output = Result<(), ClaimError>>) -> Result<(), ClaimError> {
    let late = |_| ClaimError::Unavailable("no answer in time".into());
    timeout(CALL, call).await.map_err(late)?
}
