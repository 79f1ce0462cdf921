//! What all partitions hold, asked once in a while over one connection: proof that readers are alive, and
//! the lag, also of partitions that nobody reads.

use std::{collections::HashMap, sync::Arc, time::Duration};

use iothub::{EventSource, PartitionId, PartitionProperties};
use rand::Rng;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Between two surveys: an owned partition is proven alive every 30 s at the latest, for one connection
/// and a question for each partition.
const INTERVAL: Duration = Duration::from_secs(14);
/// Keeps pods that started together from asking together.
const JITTER: Duration = Duration::from_secs(2);
/// A whole survey; 32 questions take a second on a slow line.
const SURVEY: Duration = Duration::from_secs(20);

/// What a partition held.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it was asked: what was there before is told.
    pub asked: Instant,
    /// When the answer came.
    pub answered: Instant,
    /// The answer.
    pub properties: PartitionProperties,
}

/// The newest answer of each partition.
pub type Answers = Arc<HashMap<PartitionId, Seen>>;

/// Where answers are found. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Survey(watch::Receiver<Answers>);

impl Survey {
    /// Begins to ask, until `end`.
    #[must_use]
    pub fn start(
        source: Arc<dyn EventSource>,
        partitions: Vec<PartitionId>,
        end: CancellationToken,
    ) -> Self {
        let (answers, survey) = watch::channel(Answers::default());
        let asking = async move {
            loop {
                ask(source.as_ref(), &partitions, &answers).await;
                let jitter = rand::rng().random_range(Duration::ZERO..JITTER);
                sleep(INTERVAL + jitter).await;
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = asking => {}
            }
        });
        Self(survey)
    }

    /// The newest answers.
    #[must_use]
    pub fn answers(&self) -> Answers {
        self.0.borrow().clone()
    }

    /// The newest answer of one partition.
    #[must_use]
    pub fn of(&self, partition: &PartitionId) -> Option<Seen> {
        self.0.borrow().get(partition).cloned()
    }
}

async fn ask(
    source: &dyn EventSource,
    partitions: &[PartitionId],
    answers: &watch::Sender<Answers>,
) {
    let asked = Instant::now();
    let answered = timeout(SURVEY, source.survey(partitions)).await;
    let all = match answered {
        Ok(Ok(all)) => all,
        Ok(Err(error)) => return tracing::debug!(%error, "the partitions could not be surveyed"),
        Err(_) => return tracing::debug!("surveying the partitions took too long"),
    };
    let answered = Instant::now();
    let seen = partitions.iter().cloned().zip(all);
    let seen = seen.map(|(partition, properties)| {
        let seen = Seen {
            asked,
            answered,
            properties,
        };
        (partition, seen)
    });
    answers.send_replace(Arc::new(seen.collect()));
}
