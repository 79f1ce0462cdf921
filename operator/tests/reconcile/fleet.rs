//! Many connectors in one namespace, without pods: what the operator does for them is its own work.

use std::ops::Range;

use futures::{StreamExt, stream};
use kube::api::ListParams;
use operator::api::AzureIotHubConnectorStatus;
use serde_json::json;

use crate::{
    plant::{Plant, condition},
    probe::Probe,
    wait::within,
};

/// Requests of the test at a time: as many as keep the API server busy.
pub const AT_ONCE: usize = 16;
/// Most time that one connector may add, on a machine that does other things as well.
const EACH: std::time::Duration = std::time::Duration::from_secs(2);

/// Name of the n-th.
pub fn name(n: usize) -> String {
    format!("fleet-{n:05}")
}

/// Makes these connectors.
pub async fn create(plant: &Plant, which: Range<usize>) {
    stream::iter(which)
        .for_each_concurrent(AT_ONCE, async |n| {
            plant
                .create(&name(n), |spec| spec["replicas"] = json!(0))
                .await;
        })
        .await;
}

/// Waits until each of the first `size` connectors is made, says so, and nothing is left to do.
pub async fn converged(plant: &Plant, probe: Probe, size: usize) {
    let patience = crate::wait::PATIENCE + EACH * u32::try_from(size).unwrap();
    within(patience, "all connectors are made", async || {
        // Cheap, other than to list thousands again and again.
        let ready = probe.metric("connectors", "ready=\"True\"").await;
        let left = probe.metric("workqueue_depth", "").await;
        if ready as usize != size || left > 0.0 {
            return Err(format!("{ready} are ready, {left} wait"));
        }
        match unfinished(plant, size).await {
            0 => Ok(()),
            more => Err(format!("{more} do not say so")),
        }
    })
    .await;
}

/// How many do not say that the spec that is stored is carried out.
async fn unfinished(plant: &Plant, size: usize) -> usize {
    let (mut done, mut next) = (0, None);
    loop {
        let mut page = ListParams::default().limit(500);
        page.continue_token = next;
        let found = plant.untyped().list(&page).await.unwrap();
        next = found
            .metadata
            .continue_
            .clone()
            .filter(|token| !token.is_empty());
        for connector in found {
            let status: AzureIotHubConnectorStatus =
                serde_json::from_value(connector.data["status"].clone()).unwrap_or_default();
            let says = (
                condition(&status, "Ready"),
                condition(&status, "Progressing"),
            );
            let current = status.observed_generation == connector.metadata.generation;
            let rolled = (&*says.0, &*says.1) == ("True ScaledToZero", "False RolledOut");
            done += usize::from(current && rolled);
        }
        if next.is_none() {
            return size - done;
        }
    }
}
