//! A link is opened: from where, and when its first event may be written.

use connector_config::StartPosition;
use iothub::{Batches, HubError, Position};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{CALL, End, Reader, checkpoint::Stored};
use crate::ingress::low_water::{LowWater, Mark};

impl Reader {
    async fn start_position(&mut self) -> Result<Position, End> {
        if let Some(mark) = &self.position {
            return Ok(Position::After(iothub::Offset::new(mark.offset.as_ref())));
        }
        match self.start {
            StartPosition::Earliest => Ok(Position::Earliest),
            StartPosition::Latest => {
                // Resolved once and stored before reading: a crash before the first checkpoint must
                // not move "latest" past what has arrived since.
                let source = self.ingress.source.clone();
                let now = source.properties(&self.id).await.map_err(End::Failed)?;
                if now.last_offset.as_str().is_empty() {
                    return Ok(Position::Earliest);
                }
                let mark = Mark {
                    offset: now.last_offset.as_str().into(),
                    sequence: now.last_sequence,
                    enqueued_ms: now.last_enqueued_ms,
                };
                self.low = LowWater::after(Some(mark.clone()));
                match self.checkpoints.store(&mark).await {
                    Stored::Yes => {}
                    Stored::ClaimLost => return Err(End::ClaimLost),
                    Stored::Failed => {
                        let what = "storing where reading begins".into();
                        return Err(End::Failed(HubError::TimedOut { what }));
                    }
                }
                self.position = Some(mark.clone());
                Ok(Position::After(iothub::Offset::new(mark.offset.as_ref())))
            }
        }
    }

    /// Opens a link, while the lanes go on.
    pub(super) async fn open(&mut self, stop: &CancellationToken) -> Result<Box<dyn Batches>, End> {
        let late = |_| {
            End::Failed(HubError::TimedOut {
                what: "opening a partition".into(),
            })
        };
        let position = tokio::select! {
            () = stop.cancelled() => return Err(End::Stopped),
            position = timeout(CALL, self.start_position()) => position.map_err(late)??,
        };
        // Without a position nothing was read, so nothing can have been sent meanwhile.
        self.wake.rest();
        let (source, id, epoch) = (self.ingress.source.clone(), self.id.clone(), self.epoch);
        let room = self.ingress.memory.on_the_way();
        let ahead = self.ahead.open(Instant::now(), room);
        let opening = async move { source.open(&id, position, epoch, ahead).await };
        let opening = timeout(CALL, opening);
        let opened = self.settle_while(opening, stop).await?;
        let link = opened.map_err(late)?.map_err(End::Failed)?;
        if let Some(fence) = self.fence {
            // Attached: the earlier owner is evicted. What it still has in flight at the platform is
            // answered or given up after one request time-out.
            self.settle_while(sleep(fence), stop).await?;
            self.fence = None;
        }
        Ok(link)
    }
}
