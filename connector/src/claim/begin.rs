//! A claim that was just taken, until its position is known.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Claim, ClaimError};

/// Pause before the second try; doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
/// What a person has mended is noticed within this.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Begins a claim, however long its store is away; `None` if it is lost, or if `stop` comes first, when it
/// is released as it was taken.
pub async fn begun(mut claim: Box<dyn Claim>, stop: &CancellationToken) -> Option<Box<dyn Claim>> {
    let mut pause = PAUSE;
    loop {
        // Never cut short: a write under way would then be one that nobody knows of.
        match claim.begin().await {
            Ok(()) => return Some(claim),
            Err(ClaimError::Lost) => {
                let partition = claim.partition().as_str();
                tracing::warn!(partition, "the claim is lost before it has begun");
                return None;
            }
            Err(ClaimError::Unavailable(error)) => {
                let partition = claim.partition().as_str();
                tracing::debug!(partition, error, "the position cannot be read yet");
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
    let partition = claim.partition().clone();
    if let Err(error) = claim.release(None).await {
        tracing::warn!(partition = partition.as_str(), %error, "the claim could not be released");
    }
    None
}
