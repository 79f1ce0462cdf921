//! What the end of a link means for what was read, and for what comes next.

use std::time::Duration;

use connector_config::{ReportClass, StartPosition};
use iothub::HubError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{End, Reader};
use crate::{
    claim::ClaimError,
    ingress::low_water::LowWater,
    report::{Part, Trouble},
};

/// Somebody else reads this consumer group: wait before trying again, never raise the epoch.
const TAKEN_PAUSE: Duration = Duration::from_secs(60);
/// Pause before the store is asked again whose a claim is.
const PROVE: Duration = Duration::from_secs(2);

impl Reader {
    /// What the end of a link means: how long to wait before the next (`None`: as usual), or that there
    /// is no next.
    pub(super) async fn after(
        &mut self,
        end: End,
        stop: &CancellationToken,
    ) -> Result<Option<Duration>, End> {
        let partition = self.id.as_str().to_owned();
        let error = match end {
            End::Stopped | End::ClaimLost => return Err(end),
            End::StoodStill(still) => {
                // Before anything else: nothing that was read before may be sent by a process that has
                // perhaps been replaced.
                self.drop_unsent();
                tracing::warn!(
                    partition,
                    seconds = still.as_secs_f32(),
                    "the process stood still; reading again from what was settled"
                );
                return self.prove(stop).await.map(|()| Some(Duration::ZERO));
            }
            End::Resized => return Ok(Some(Duration::ZERO)),
            End::Failed(error) => error,
        };
        match &error {
            HubError::Evicted { .. } | HubError::LowerEpoch { .. } => {
                match self.confirm().await {
                    Err(ClaimError::Lost) => return Err(End::ClaimLost),
                    Ok(()) => {}
                    Err(ClaimError::Unavailable(_)) => {
                        // Perhaps another member has taken over and writes what came later.
                        self.drop_unsent();
                        self.prove(stop).await?;
                    }
                }
                let message = format!(
                    "partition {partition} is read by another program on the same consumer group; give \
                     this connector a consumer group of its own"
                );
                let trouble = Trouble::new(ReportClass::User, "ConsumerGroupTaken", message);
                self.ingress.reporter.trouble(Part::Ingress, trouble);
                Ok(Some(TAKEN_PAUSE))
            }
            HubError::PositionRefused { .. } => {
                tracing::error!(
                    partition, position = ?self.position, %error,
                    "the hub no longer has the position; starting at the earliest event it keeps"
                );
                // What was read before belongs to the old stream, whose positions mean nothing in the new.
                if let Some(end) = self.settle_all(stop).await {
                    return match end {
                        End::Stopped | End::ClaimLost => Err(end),
                        End::StoodStill(_) | End::Resized | End::Failed(_) => {
                            Box::pin(self.after(end, stop)).await
                        }
                    };
                }
                self.position = None;
                self.checkpoints.forget();
                self.low = LowWater::after(None);
                // "Latest" would skip what is still there.
                self.start = StartPosition::Earliest;
                Ok(None)
            }
            error => {
                tracing::warn!(partition, %error, "the link to the partition failed; opening it again");
                match self.confirm().await {
                    Err(ClaimError::Lost) => Err(End::ClaimLost),
                    // Without the store nobody can have taken over, but if it is out of reach for this
                    // pod alone; then the hub refuses us while the other reads.
                    Ok(()) | Err(ClaimError::Unavailable(_)) => Ok(None),
                }
            }
        }
    }

    /// Waits until the claim is known to be ours: nothing may be read or sent before.
    async fn prove(&mut self, stop: &CancellationToken) -> Result<(), End> {
        loop {
            let error = match self.confirm().await {
                Ok(()) => return Ok(()),
                Err(ClaimError::Lost) => return Err(End::ClaimLost),
                Err(ClaimError::Unavailable(error)) => error,
            };
            let partition = self.id.as_str();
            tracing::warn!(partition, error, "waiting to learn whose the partition is");
            tokio::select! {
                () = stop.cancelled() => return Err(End::Stopped),
                () = sleep(PROVE) => {}
            }
        }
    }

    /// Whether the claim still names us. An answer from before a pause of the process says nothing.
    async fn confirm(&mut self) -> Result<(), ClaimError> {
        loop {
            tokio::select! {
                biased;
                _ = self.wake.stood_still() => {}
                confirmed = self.checkpoints.confirm() => return confirmed,
            }
        }
    }
}
