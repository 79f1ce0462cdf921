//! Who works beside whom, as of the last look at the members' Leases.

use std::collections::BTreeSet;

use tokio::sync::watch;

use crate::identity::MemberId;

/// The members that take part, oneself included. A process of its own is the only one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Members(watch::Receiver<BTreeSet<MemberId>>);

impl Members {
    /// As they are told.
    #[must_use]
    pub fn new(told: watch::Receiver<BTreeSet<MemberId>>) -> Self {
        Self(told)
    }

    /// How many; at least one.
    #[must_use]
    pub fn count(&self) -> f64 {
        let count = self.0.borrow().len();
        // Beyond it nobody counts.
        f64::from(u16::try_from(count).unwrap_or(u16::MAX).max(1))
    }
}
