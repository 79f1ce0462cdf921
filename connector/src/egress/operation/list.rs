//! All devices of the hub.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use iothub::{HubError, PageRequest};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::{
    Hub,
    limit::{Repeat, Sort},
};

/// Items of a page; the hub gives fewer if it likes.
const PAGE: u16 = 1000;
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
        let mut found = BTreeSet::new();
        let mut page = PageRequest {
            size: Some(PAGE),
            from: None,
        };
        loop {
            let ask = || self.ways.rest.query("SELECT deviceId FROM devices", &page);
            let deadline = Instant::now() + WAIT;
            let next = self
                .gates
                .pass(Sort::Query, Repeat::Always, deadline, ask)
                .await?;
            let ids = next
                .items
                .iter()
                .filter_map(|item| item.get("deviceId").and_then(Json::as_str));
            found.extend(ids.map(Arc::from));
            if found.len() > MOST {
                tracing::warn!(MOST, "the hub has more devices than can be bound by name");
                return Ok(found.into_iter().take(MOST).collect());
            }
            page.from = next.next;
            if page.from.is_none() {
                return Ok(found);
            }
        }
    }
}
