//! Leases of members and partitions whose connector is gone. They outlive it on purpose, so that one made anew goes on
//! where the last one stopped; when the hub has dropped all that they point at, they are removed.

use std::{collections::BTreeMap, time::Duration};

use connector_config::label;
use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::ListParams};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    api::AzureIotHubConnector,
    apply::Applier,
    error::{CallError, call},
    health::Health,
    lease::Permit,
    observe::{Stores, instance},
    store::ObjectKey,
};

/// Leases in one answer: a few hundred kilobytes.
const PAGE: u32 = 500;
/// Looks during the time that a Lease is kept, so that it is removed at most this part of it too late.
const LOOKS: u32 = 32;
/// Between two looks, at least and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(6 * 3600));
/// The first look comes when a start has settled, also where operators do not live for hours.
const FIRST: Duration = Duration::from_secs(600);

/// Removes them.
pub struct Retained {
    /// Reads with this.
    pub client: Client,
    /// Removes with this.
    pub applier: Applier,
    /// What the watches have seen.
    pub stores: Stores,
    /// Whether they see.
    pub health: Health,
    /// Namespaces; none for all.
    pub scopes: Vec<String>,
    /// How long after its last write a Lease is kept.
    pub age: Duration,
}

impl Retained {
    /// Looks again and again, while `permit` allows to write, until `shutdown`.
    pub async fn run(self, permit: Permit, shutdown: CancellationToken) {
        let pause = (self.age / LOOKS).clamp(PAUSE.0, PAUSE.1);
        let mut due = Instant::now() + pause.min(FIRST);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(due) => {}
            }
            due = Instant::now() + pause;
            if permit.check().is_err() || !self.sees() {
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.look() => {}
            }
        }
    }

    /// Whether the list of resources is what the server has.
    fn sees(&self) -> bool {
        self.health.unready().is_none() && self.health.all_well("AzureIotHubConnector")
    }

    async fn look(&self) {
        let scopes: Vec<_> = if self.scopes.is_empty() {
            vec![Api::all(self.client.clone())]
        } else {
            let scopes = self.scopes.iter();
            scopes
                .map(|scope| Api::namespaced(self.client.clone(), scope))
                .collect()
        };
        for api in scopes {
            if let Err(error) = self.look_in(&api).await {
                tracing::debug!(%error, "Leases of connectors that are gone were not looked for");
            }
        }
    }

    async fn look_in(&self, api: &Api<Lease>) -> Result<(), CallError> {
        let ours = format!(
            "{}={},{} in ({},{}),{}",
            label::NAME,
            label::NAME_VALUE,
            label::COMPONENT,
            label::COMPONENT_MEMBER,
            label::COMPONENT_CLAIM,
            label::INSTANCE,
        );
        let mut params = ListParams::default().labels(&ours).limit(PAGE);
        let mut gone = BTreeMap::new();
        loop {
            let page = call(api.list_metadata(&params)).await?;
            for lease in page.items {
                let metadata = &lease.metadata;
                let Some(key) = instance(&lease).map(|name| ObjectKey::of(&lease).sibling(name))
                else {
                    continue;
                };
                if !expired(metadata, Timestamp::now(), self.age)
                    || self.stores.connectors.get(&key).is_some()
                {
                    continue;
                }
                // The watch may have missed one; the server has the last word.
                if !gone.contains_key(&key) {
                    gone.insert(key.clone(), self.is_gone(&key).await?);
                }
                if gone.get(&key) == Some(&true) {
                    self.applier.remove_lease(metadata).await?;
                    // Many at once are no hurry.
                    sleep(Duration::from_millis(20)).await;
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    async fn is_gone(&self, key: &ObjectKey) -> Result<bool, CallError> {
        let api: Api<AzureIotHubConnector> = Api::namespaced(self.client.clone(), &key.namespace);
        let found = call(api.get_metadata_opt(&key.name)).await?;
        Ok(found.is_none())
    }
}

/// Whether nothing was written for `age`, by the API server's own book. What pods write into a Lease is their
/// clocks' and may be far off.
fn expired(metadata: &ObjectMeta, now: Timestamp, age: Duration) -> bool {
    let managed = metadata.managed_fields.iter().flatten();
    let written = managed.filter_map(|entry| entry.time.as_ref());
    let last = written.chain(&metadata.creation_timestamp).max();
    last.is_some_and(|last| {
        let since = now.duration_since(last.0);
        Duration::try_from(since).is_ok_and(|since| since >= age)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_write_counts_and_one_without_a_time_is_kept() {
        let day = Duration::from_secs(86_400);
        let age = 8 * day;
        let of = |times: &[&str]| -> ObjectMeta {
            let entries: Vec<_> = times.iter().map(|time| json!({ "time": time })).collect();
            serde_json::from_value(json!({
                "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": entries,
            }))
            .unwrap()
        };
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        assert!(expired(&of(&[]), now, age));
        assert!(expired(&of(&["2026-01-01T12:00:00Z"]), now, age));
        assert!(!expired(
            &of(&["2026-01-01T12:00:00Z", "2026-01-05T00:00:00Z"]),
            now,
            age
        ));
        let before: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
        assert!(!expired(&of(&[]), before, age), "the own clock is behind");
        assert!(!expired(&ObjectMeta::default(), now, age));
    }
}
