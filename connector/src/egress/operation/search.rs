//! The hub's registry, searched page by page.

use std::time::Duration;

use async_trait::async_trait;
use iothub::{Continuation, HubError, Page, PageRequest};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::{
    Hub,
    limit::{Repeat, Sort},
};
use crate::import::Devices;

/// Devices of a page: the hub counts queries, not what they find. It may give fewer.
const PAGE: u16 = 1000;
/// How long a page of an import may take, with what is waited for when the hub throttles.
const SEARCH: Duration = Duration::from_secs(60);

impl Hub {
    /// A page of the ids of devices, after a wait of at most `wait` if the hub throttles.
    pub(super) async fn ids(
        &self,
        condition: Option<&str>,
        from: Option<Continuation>,
        wait: Duration,
    ) -> Result<Page<String>, HubError> {
        let query = match condition {
            None => "SELECT deviceId FROM devices".to_owned(),
            Some(condition) => format!("SELECT deviceId FROM devices WHERE {condition}"),
        };
        let size = Some(PAGE);
        let page = PageRequest { size, from };
        let ask = || self.ways.rest.query(&query, &page);
        let deadline = Instant::now() + wait;
        let found = self.gates.pass(Sort::Query, Repeat::Always, deadline, ask);
        let Page { items, next } = found.await?;
        let id = |item: Json| item.get("deviceId")?.as_str().map(str::to_owned);
        Ok(Page {
            items: items.into_iter().filter_map(id).collect(),
            next,
        })
    }
}

#[async_trait]
impl Devices for Hub {
    async fn page(
        &self,
        condition: Option<&str>,
        from: Option<Continuation>,
    ) -> Result<Page<String>, HubError> {
        self.ids(condition, from, SEARCH).await
    }
}
