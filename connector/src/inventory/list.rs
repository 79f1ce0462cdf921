//! The hub's devices, as far as they are known.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use connector_config::{MemberReport, ReportClass};
use iothub::HubError;
use rand::Rng;
use tokio::{sync::watch, time::sleep};

use crate::report::{Part, Reporter, Trouble};

/// Names of devices. All members hold the whole list, so that any can take over.
pub type Devices = Arc<BTreeSet<Arc<str>>>;

/// Between two lists. A hundred thousand devices are a hundred queries at least, of which S1 allows twenty a minute
/// and unit: more often would take them from others, and a new device has no Thing for a while anyway.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// Keeps pods that started together from listing together.
const JITTER: Duration = Duration::from_secs(60);
/// After a list that failed.
const AGAIN: Duration = Duration::from_secs(30);

/// Lists again and again and tells what has come of it; what cannot be listed stays as it was.
pub(super) async fn keep<F>(list: impl Fn() -> F, known: watch::Sender<Devices>, reporter: Reporter)
where
    F: Future<Output = Result<BTreeSet<Arc<str>>, HubError>>,
{
    loop {
        let pause = match list().await {
            Ok(devices) => {
                reporter.well(Part::DeviceList);
                tracing::debug!(devices = devices.len(), "listed");
                known.send_if_modified(|known| {
                    let new = **known != devices;
                    if new {
                        *known = Arc::new(devices);
                    }
                    new
                });
                EVERY + rand::rng().random_range(Duration::ZERO..JITTER)
            }
            Err(error) => {
                let message = format!(
                    "the hub's devices cannot be listed, so that new ones are not bound (thingworx.bindDevices): {error}"
                );
                let trouble =
                    Trouble::new(ReportClass::Transient, MemberReport::DEVICE_LIST, message);
                reporter.trouble(Part::DeviceList, trouble);
                AGAIN
            }
        };
        sleep(pause).await;
    }
}
