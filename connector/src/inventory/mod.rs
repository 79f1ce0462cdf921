//! Binding of devices by name (`thingworx.bindDevices`): for Things that do not hand their requests to the hub Thing,
//! because their template lacks `RoutedEgress`. The members share the devices.
//!
//! Each device is bound under its name and as `*name`: a Thing with an identifier is reached by the second form
//! alone (PTC Edge SDK for Java help, "Binding to the platform"), and which Things have one is not told without
//! further rights. A name without a Thing does no harm: it is bound once there is one.

mod list;
mod share;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use iothub::HubError;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{identity::MemberId, member::Members, platform::Binder, report::Reporter};
use list::Devices;
use share::Owners;

/// A device that another member has is bound this long after the members have changed: by then the other has seen it
/// as well, a look at the Leases taking three seconds at most, and has let go. ThingWorx gives a name to whoever binds
/// it first. What a member had that is gone waits for nobody.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Binds this member's devices.
pub struct Inventory {
    /// By which they are bound.
    pub binder: Binder,
    /// Who shares them.
    pub members: Members,
    /// Which member this is.
    pub own: MemberId,
    /// Where it is said that they cannot be listed.
    pub reporter: Reporter,
}

impl Inventory {
    /// Binds those that `list` gives, as they and the members change, until `end`.
    pub async fn run<F>(self, list: impl Fn() -> F, end: CancellationToken)
    where
        F: Future<Output = Result<BTreeSet<Arc<str>>, HubError>>,
    {
        let (tell, known) = watch::channel(Devices::default());
        let lists = list::keep(list, tell, self.reporter.clone());
        tokio::select! {
            () = end.cancelled() => {}
            () = lists => {}
            () = self.share(known) => {}
        }
    }

    async fn share(mut self, mut known: watch::Receiver<Devices>) {
        let mut bound = BTreeSet::new();
        // Whoever starts changes the members.
        let (mut before, mut now) = (Owners::default(), Owners::new(&self.members.now()));
        let mut moving = Some(Instant::now() + HAND_OVER);
        loop {
            let devices = known.borrow_and_update().clone();
            let mut wanted = now.share(&devices, &self.own);
            if moving.is_some() {
                // What is another's now is let go at once. What was another's is still held by it, unless it is gone.
                let is_gone = |owner: &MemberId| !now.has(owner);
                wanted.retain(|one| bound.contains(one) || before.owner(one).is_some_and(is_gone));
            }
            if wanted != bound {
                self.binder.devices(wanted.iter().flat_map(names).collect());
                bound = wanted;
            }
            let due = async {
                match moving {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = known.changed() => if changed.is_err() { return },
                () = self.members.changed() => {
                    let new = Owners::new(&self.members.now());
                    let old = std::mem::replace(&mut now, new);
                    if moving.is_none() {
                        before = old;
                    }
                    moving = Some(Instant::now() + HAND_OVER);
                }
                () = due => moving = None,
            }
        }
    }
}

/// The names of a device.
fn names(device: &Arc<str>) -> [Arc<str>; 2] {
    [device.clone(), format!("*{device}").into()]
}

#[cfg(test)]
mod tests;
