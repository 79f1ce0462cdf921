//! What is remembered of one resource between reconciles.

use super::version_of;
use crate::{
    api::{AzureIotHubConnectorStatus, Stored, condition::ConditionType},
    plan::Known,
    resolve::Resolved,
    stale::Patience,
};

/// What is remembered of one resource between reconciles.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// Of the resource that is remembered.
    pub(super) uid: String,
    /// The watch has shown the resource as the server had it at the first look. Whoever takes over may
    /// have a watch that lags behind what the last one was told, and would carry out an old spec.
    pub(super) current: bool,
    pub(super) resolved: Option<Resolved>,
    pub(super) children: Known,
    /// It waits until fewer others replace their pods.
    pub(super) queued: bool,
    /// How long its members have disagreed with their Deployment.
    pub(super) patience: Patience,
    /// The latest status written, and the version that made: the watch may lag behind.
    pub(super) written: Option<(String, AzureIotHubConnectorStatus)>,
}

impl Memory {
    /// Lets go of the status that was written, if the watch shows it or a later one by now.
    pub(super) fn shown(&mut self, stored: &Stored) {
        let seen = version(&version_of(stored).unwrap_or_default());
        self.written = self.written.take().filter(|(made, _)| version(made) > seen);
    }

    /// The latest status that is known and the version of the resource that holds it, without what other
    /// operators say.
    pub(super) fn latest(&self, stored: &Stored) -> (String, AzureIotHubConnectorStatus) {
        let seen = version_of(stored).unwrap_or_default();
        if let Some((made, written)) = &self.written
            && version(made) > version(&seen)
        {
            return (made.clone(), written.clone());
        }
        let mut status = stored.status.clone();
        let others = ConditionType::OperatorConflict.as_str();
        status.conditions.retain(|said| said.type_ != others);
        (seen, status)
    }
}

/// Kubernetes promises since 1.35 that versions of one resource compare as numbers, which its storage
/// has done all along. One that is no number counts as old.
fn version(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}
