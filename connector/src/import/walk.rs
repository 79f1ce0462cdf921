//! The way of an import through the hub's registry: page by page, each device once or, after another
//! member's end, again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_config::ThingName;
use futures::{FutureExt, StreamExt, stream};
use iothub::{Class, Continuation, HubError, Page};
use tokio::{sync::watch, time::sleep};

use super::{
    record::{Asked, Count, Place, Progress, State},
    thing::{Made, Maker},
};
use crate::{metrics::Metrics, platform::Destination};

/// Devices that are under way at once: enough for a platform of several nodes, and few beside what
/// telemetry has under way.
const AT_ONCE: usize = 16;
/// So many devices refused, one after the other and none taken, are the template's fault or that of a right:
/// the rest is spared.
const HOPELESS: u32 = 8;
/// Before the hub is asked again after it could not be reached or has throttled.
const AGAIN: Duration = Duration::from_secs(5);
/// A continuation that the hub does not take any more is followed by a new query. So often: one that is
/// refused each time would never end.
const RESTARTS: u32 = 3;

/// The devices of a hub.
#[async_trait]
pub trait Devices: Send + Sync {
    /// A page of the ids of those that meet a condition; all without.
    ///
    /// # Errors
    /// [`HubError`]; asking can always be repeated.
    async fn page(
        &self,
        condition: Option<&str>,
        from: Option<Continuation>,
    ) -> Result<Page<String>, HubError>;
}

/// What imports are carried out with.
#[derive(Clone)]
pub struct Ways {
    /// Where devices are found.
    pub devices: Arc<dyn Devices>,
    /// Where Things are made.
    pub platform: Arc<dyn Destination>,
    /// Their gateway.
    pub hub: ThingName,
    /// What is counted.
    pub metrics: Metrics,
}

/// How an import has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) state: State,
    /// In words an administrator understands.
    pub(super) message: String,
}

impl Ways {
    /// Goes on where `progress` says, and tells there how far it has come.
    pub(super) async fn walk(&self, asked: &Asked, progress: &watch::Sender<Progress>) -> End {
        match self.pages(asked, progress).await {
            Ok(()) => End {
                state: State::Completed,
                message: completed(progress.borrow().count.failed),
            },
            Err(message) => End {
                state: State::Failed,
                message,
            },
        }
    }

    async fn pages(&self, asked: &Asked, progress: &watch::Sender<Progress>) -> Result<(), String> {
        let (mut restarts, mut doubt) = (0, Doubt::After(0));
        loop {
            let place = progress.borrow().place.clone();
            let from = match place {
                Place::Start => None,
                Place::Page(token) => Some(Continuation::new(token)),
                Place::End => return Ok(()),
            };
            let again = from.is_some() && restarts < RESTARTS;
            let page = match self.page(asked, from).await {
                Ok(page) => page,
                // The query is as it was when the continuation was given; so it is the latter that is refused.
                Err(error) if again && error.class() == Class::User => {
                    restarts += 1;
                    tracing::warn!(%error, "the hub does not know the import's place any more; from the start");
                    // Those that are met again count as existing.
                    progress.send_replace(Progress::default());
                    continue;
                }
                Err(error) => return Err(format!("looking for the hub's devices: {error}")),
            };
            let mut tally = Tally::new(&self.metrics);
            let done = self.things(page.items, asked, &mut doubt, &mut tally);
            let done = done.await;
            progress.send_modify(|now| {
                now.count.add(tally.count);
                if done.is_ok() {
                    let behind = page.next.as_ref().map(Continuation::as_str);
                    now.place = behind.map_or(Place::End, |next| Place::Page(next.to_owned()));
                }
            });
            done?;
        }
    }

    /// A page, once the hub gives it. What will not be different in a while is an error.
    async fn page(
        &self,
        asked: &Asked,
        from: Option<Continuation>,
    ) -> Result<Page<String>, HubError> {
        loop {
            let page = self.devices.page(asked.condition.as_deref(), from.clone());
            match page.await {
                Err(error) if matches!(error.class(), Class::Transient | Class::Throttled) => {
                    tracing::debug!(%error, "an import waits for the hub");
                    sleep(AGAIN).await;
                }
                done => return done,
            }
        }
    }

    /// Makes the Things of a page: while in doubt one after the other.
    async fn things(
        &self,
        devices: Vec<String>,
        asked: &Asked,
        doubt: &mut Doubt,
        tally: &mut Tally<'_>,
    ) -> Result<(), String> {
        let maker = Maker {
            platform: self.platform.as_ref(),
            template: &asked.template,
            hub: &self.hub,
        };
        let named = |device: &String| match ThingName::new(device.as_str()) {
            Ok(_) => true,
            Err(error) => {
                tally.refuse(device, &format!("the name {error}"));
                false
            }
        };
        let devices: Vec<String> = devices.into_iter().filter(named).collect();
        let mut rest = devices.into_iter();
        while let Doubt::After(refused) = *doubt
            && let Some(device) = rest.next()
        {
            let (device, creation) = maker.create(device).await;
            let (device, made) = maker.finish(device, creation).await;
            *doubt = match tally.take(&device, made) {
                Ok(()) => Doubt::None,
                Err(reason) if refused + 1 >= HOPELESS => {
                    return Err(hopeless(&asked.template, &reason));
                }
                Err(_) => Doubt::After(refused + 1),
            };
        }
        // All are made before the first is enabled: by then nodes other than its own know it as well.
        let creations = stream::iter(rest)
            .map(|device| maker.create(device).boxed())
            .buffer_unordered(AT_ONCE);
        let creations: Vec<_> = creations.collect().await;
        let mut finished = stream::iter(creations)
            .map(|(device, creation)| maker.finish(device, creation).boxed())
            .buffer_unordered(AT_ONCE);
        let mut refused = false;
        while let Some((device, made)) = finished.next().await {
            refused |= tally.take(&device, made).is_err();
        }
        if refused && !tally.taken {
            *doubt = Doubt::After(0);
        }
        Ok(())
    }
}

/// Whether Things can be made at all. Until that is known, devices are tried one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// They can.
    None,
    /// So many devices were refused in a row, and none taken.
    After(u32),
}

/// Counts what becomes of a page.
struct Tally<'a> {
    metrics: &'a Metrics,
    count: Count,
    /// Some have a Thing.
    taken: bool,
}

impl<'a> Tally<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        Self {
            metrics,
            count: Count::default(),
            taken: false,
        }
    }

    /// Counts a device; gives why it was refused, if it was.
    fn take(&mut self, device: &str, made: Made) -> Result<(), String> {
        match made {
            Made::Created => {
                self.count.created += 1;
                self.metrics.imported("created");
            }
            Made::Existing => {
                self.count.existing += 1;
                self.metrics.imported("existing");
            }
            Made::Refused(reason) => {
                self.refuse(device, &reason);
                return Err(reason);
            }
        }
        self.taken = true;
        Ok(())
    }

    fn refuse(&mut self, device: &str, reason: &str) {
        self.count.refuse(device, reason);
        self.metrics.imported("failed");
    }
}

fn completed(failed: u64) -> String {
    match failed {
        0 => "every device has a Thing".into(),
        failed => format!("{failed} devices have no Thing; context names the first"),
    }
}

fn hopeless(template: &str, reason: &str) -> String {
    format!(
        "ThingWorx has refused {HOPELESS} devices in a row; it answers {reason}; see that there is a Thing \
         Template {template} with the property gatewayThing, and let the connector's user read it at \
         design time, run EntityServices.CreateThing and all services of its Things, and write their \
         properties"
    )
}
