//! An autoscaler that writes while the operator applies.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::json;

use crate::{
    plant::{NAME, Plant},
    wait::{eventually, quiet, settled},
};

/// Pods that the autoscaler ends with; it takes one step after the other, up and down again.
const TOP: i32 = 20;
/// Between two steps: much faster than a real one, so that steps and applies meet.
const STEP: Duration = Duration::from_millis(100);
/// Most writes: four until the pause between two has grown to its longest, in seconds, with as many to spare.
const WRITES: u64 = 8;
const PAUSE: u64 = 2;

/// Every number of replicas that the Deployment has had, in their order.
fn history(plant: &Plant) -> Arc<Mutex<Vec<i32>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (history, client) = (Arc::clone(&seen), plant.client.clone());
    let api: Api<Deployment> = Api::namespaced(client, &plant.namespace);
    tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
        while let Some(event) = events.next().await {
            if let Ok(Event::Apply(found) | Event::InitApply(found)) = event {
                let replicas = found.spec.and_then(|spec| spec.replicas);
                history.lock().unwrap().extend(replicas);
            }
        }
    });
    seen
}

async fn step(plant: &Plant, replicas: i32) {
    let params = PatchParams::default();
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let scaled = plant.untyped().patch_scale(NAME, &params, &patch).await;
    scaled.unwrap();
    // Something else changes as well, so that whole Deployments are applied.
    if replicas % 3 == 0 {
        let timeout = 10 + replicas;
        plant
            .change(json!({"thingworx": {"platformRequestTimeoutSeconds": timeout}}))
            .await;
    }
    tokio::time::sleep(STEP).await;
}

/// Waits until the history ends with this.
async fn arrives(history: &Mutex<Vec<i32>>, replicas: i32) -> Vec<i32> {
    eventually("the Deployment follows an autoscaler", async || {
        let seen = history.lock().unwrap().clone();
        match seen.last() == Some(&replicas) {
            true => Ok(seen),
            false => Err(format!("{seen:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn h2_an_autoscaler_and_the_operator_do_not_fight() {
    let Some(plant) = Plant::new("h2").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    let history = history(&plant);
    arrives(&history, 1).await;
    let rolls = |proxy: &crate::proxy::Proxy| {
        proxy.count(|call| call.writes() && call.resource == "deployments")
    };
    let (before, begun) = (rolls(&operator.proxy), Instant::now());
    for replicas in 2..=TOP {
        step(&plant, replicas).await;
    }
    let up = arrives(&history, TOP).await;
    assert!(
        up.is_sorted(),
        "broken: no number of replicas comes back: {up:?}"
    );
    for replicas in (1..TOP).rev() {
        step(&plant, replicas).await;
    }
    let down = arrives(&history, 1).await.split_off(up.len());
    assert!(
        down.is_sorted_by(|a, b| a >= b),
        "broken: no number of replicas comes back: {down:?}"
    );
    plant.bound("beside an autoscaler all is carried out").await;
    settled(&operator.proxy).await;
    let writes = u64::try_from(rolls(&operator.proxy) - before).unwrap();
    let most = WRITES + begun.elapsed().as_secs() / PAUSE;
    println!("H2: {writes} writes for {} steps", 2 * (TOP - 1));
    assert!(
        writes <= most,
        "broken: writes beside an autoscaler are few: {writes}, not {most}"
    );
    quiet(&operator.proxy, "after an autoscaler").await;
}
