//! All devices of the hub.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use iothub::HubError;

use super::Hub;

/// For one page: a throttling by queries of others passes within a minute, over which the hub counts them.
const WAIT: Duration = Duration::from_secs(120);
/// Most that are held: twice what a connector is made for. About 60 bytes each.
const MOST: usize = 200_000;

impl Hub {
    /// The ids of all devices, the first 200,000 that the hub gives. What has just changed may be missing for
    /// minutes.
    ///
    /// # Errors
    /// As the hub refuses a page.
    pub async fn devices(&self) -> Result<BTreeSet<Arc<str>>, HubError> {
        let (mut found, mut from) = (BTreeSet::new(), None);
        loop {
            let page = self.ids(None, from, WAIT).await?;
            found.extend(page.items.into_iter().map(Arc::from));
            if found.len() > MOST {
                tracing::warn!(MOST, "the hub has more devices than can be bound by name");
                return Ok(found.into_iter().take(MOST).collect());
            }
            from = page.next;
            if from.is_none() {
                return Ok(found);
            }
        }
    }
}
