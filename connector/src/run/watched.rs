//! A source whose fate is watched: when its endpoint cannot be reached or refuses us for long, it may not
//! be the hub's any more.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use iothub::{
    Batches, Epoch, EventSource, HubError, PartitionId, PartitionProperties, Position,
    SourceIdentity,
};
use tokio::{sync::watch, time::Instant};

/// So many failures without a success between, of all partitions together, are no passing fault…
const FAILURES: u32 = 3;
/// …and neither is one that has lasted for so long: an attempt that is not answered takes as long.
const LASTING: Duration = Duration::from_secs(30);

/// How an endpoint has fared lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Health {
    failures: u32,
    /// The first of the failures.
    since: Option<Instant>,
    /// The failure that was one too many.
    enough: Option<Instant>,
}

impl Health {
    fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.since.get_or_insert(now);
        if self.failures >= FAILURES {
            self.enough.get_or_insert(now);
        }
    }

    /// From when on the hub should be asked whether this is still its endpoint; `None` while all is well.
    pub(super) fn doubtful_from(&self) -> Option<Instant> {
        let lasting = self.since? + LASTING;
        Some(self.enough.map_or(lasting, |enough| enough.min(lasting)))
    }
}

/// What an answer tells about the endpoint: it is there, it is not, or nothing.
fn is_there<T>(answer: &Result<T, HubError>) -> Option<bool> {
    match answer {
        Ok(_)
        | Err(
            HubError::Evicted { .. }
            | HubError::LowerEpoch { .. }
            | HubError::PositionRefused { .. }
            | HubError::Throttled { .. },
        ) => Some(true),
        Err(
            HubError::Transport { .. }
            | HubError::TimedOut { .. }
            | HubError::Unavailable { .. }
            | HubError::Denied { .. }
            | HubError::NotFound { .. },
        ) => Some(false),
        Err(_) => None,
    }
}

/// A source that keeps book of how it fares.
pub(super) struct Watched {
    source: Arc<dyn EventSource>,
    health: watch::Sender<Health>,
}

impl Watched {
    pub(super) fn new(source: Arc<dyn EventSource>) -> (Self, watch::Receiver<Health>) {
        let health = watch::Sender::default();
        let watch = health.subscribe();
        (Self { source, health }, watch)
    }

    async fn noted<T>(
        &self,
        asking: impl Future<Output = Result<T, HubError>>,
    ) -> Result<T, HubError> {
        // Whoever waits no longer has waited too long.
        let mut verdict = Verdict {
            health: &self.health,
            there: Some(false),
        };
        let answer = asking.await;
        verdict.there = is_there(&answer);
        answer
    }
}

/// Is entered in the book when it goes.
struct Verdict<'a> {
    health: &'a watch::Sender<Health>,
    there: Option<bool>,
}

impl Drop for Verdict<'_> {
    fn drop(&mut self) {
        self.health.send_if_modified(|health| {
            let before = *health;
            match self.there {
                Some(true) => *health = Health::default(),
                Some(false) => health.failed(Instant::now()),
                None => {}
            }
            *health != before
        });
    }
}

#[async_trait]
impl EventSource for Watched {
    async fn partitions(&self) -> Result<Vec<PartitionId>, HubError> {
        self.noted(self.source.partitions()).await
    }

    async fn properties(&self, partition: &PartitionId) -> Result<PartitionProperties, HubError> {
        self.noted(self.source.properties(partition)).await
    }

    async fn survey(
        &self,
        partitions: &[PartitionId],
    ) -> Result<Vec<PartitionProperties>, HubError> {
        self.noted(self.source.survey(partitions)).await
    }

    async fn open(
        &self,
        partition: &PartitionId,
        position: Position,
        epoch: Epoch,
        ahead: u32,
    ) -> Result<Box<dyn Batches>, HubError> {
        self.noted(self.source.open(partition, position, epoch, ahead))
            .await
    }

    fn identity(&self) -> &SourceIdentity {
        self.source.identity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_or_half_a_minute_raise_doubt_and_a_success_ends_it() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut health = Health::default();
        assert_eq!(health.doubtful_from(), None);
        health.failed(at(0));
        health.failed(at(1));
        assert_eq!(health.doubtful_from(), Some(at(30)), "it lasts");
        health.failed(at(2));
        health.failed(at(40));
        assert_eq!(health.doubtful_from(), Some(at(2)), "three have failed");
    }

    struct Answers(HubError);

    #[async_trait]
    impl EventSource for Answers {
        async fn partitions(&self) -> Result<Vec<PartitionId>, HubError> {
            Ok(Vec::new())
        }

        async fn properties(&self, _: &PartitionId) -> Result<PartitionProperties, HubError> {
            std::future::pending().await
        }

        async fn survey(&self, _: &[PartitionId]) -> Result<Vec<PartitionProperties>, HubError> {
            unreachable!("nobody surveys here")
        }

        async fn open(
            &self,
            _: &PartitionId,
            _: Position,
            _: Epoch,
            _: u32,
        ) -> Result<Box<dyn Batches>, HubError> {
            Err(self.0.clone())
        }

        fn identity(&self) -> &SourceIdentity {
            unreachable!("nobody asks")
        }
    }

    async fn after(error: HubError, opens: usize) -> (Watched, watch::Receiver<Health>) {
        let (source, health) = Watched::new(Arc::new(Answers(error)));
        let zero = PartitionId::new("0");
        for _ in 0..opens {
            let _ = source.open(&zero, Position::Earliest, Epoch(1), 100).await;
        }
        (source, health)
    }

    fn gone() -> HubError {
        HubError::NotFound {
            what: "entity".into(),
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_refuses_for_its_own_reasons_is_there() {
        let partition = || "0".to_owned();
        for error in [
            HubError::Evicted {
                partition: partition(),
            },
            HubError::LowerEpoch {
                partition: partition(),
            },
            HubError::Throttled { retry_after: None },
        ] {
            let (_, health) = after(error.clone(), 5).await;
            assert_eq!(*health.borrow(), Health::default(), "{error}");
        }
        let (source, health) = after(gone(), 3).await;
        assert!(health.borrow().doubtful_from().is_some());
        source.partitions().await.unwrap();
        assert_eq!(*health.borrow(), Health::default());
    }

    #[tokio::test]
    async fn a_question_that_is_given_up_counts_as_failed() {
        let (source, health) = after(gone(), 2).await;
        assert!(health.borrow().enough.is_none());
        {
            let zero = PartitionId::new("0");
            let question = source.properties(&zero);
            tokio::pin!(question);
            assert!(futures::poll!(question.as_mut()).is_pending());
        }
        assert!(health.borrow().enough.is_some());
    }
}
