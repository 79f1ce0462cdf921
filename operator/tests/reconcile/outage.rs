//! Connections that break, and a server that falls silent.

use std::time::{Duration, Instant};

use crate::{
    plant::Plant,
    proxy::Proxy,
    wait::{form, quiet, within},
    wire::Line,
};

/// After an outage everything is noticed again within this time.
const BACK: Duration = Duration::from_secs(30);
/// The watches of one operator over one namespace.
const WATCHES: usize = 12;

/// Waits until each watch is back, as the requests after the first `before` tell; after how long.
pub async fn watches_back(proxy: &Proxy, before: usize) -> Duration {
    let begun = Instant::now();
    within(BACK, "each watch is back after an outage", async || {
        let seen = proxy.seen();
        let back: std::collections::BTreeSet<_> = seen[before..]
            .iter()
            .filter(|seen| seen.call.verb == "watch")
            .map(|seen| seen.call.resource.clone())
            .collect();
        // Secrets and ConfigMaps; ConfigMaps are watched twice.
        if back.len() == WATCHES - 1 {
            Ok(())
        } else {
            Err(format!("{back:?}"))
        }
    })
    .await;
    begun.elapsed()
}

/// An outage of this length; then each watch must be back, and a change must be answered.
async fn outage(id: &str, line: Line, length: Duration) {
    let Some(plant) = Plant::new(&format!("r4-{id}")).await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    operator.proxy.line(line);
    plant.change(serde_json::json!({"replicas": 2})).await;
    tokio::time::sleep(length).await;
    assert_eq!(
        operator.get("/livez").await.0,
        200,
        "broken: an outage is no reason to restart"
    );
    let before = operator.proxy.seen().len();
    operator.proxy.line(Line::Open);
    let healed = Instant::now();
    let watching = watches_back(&operator.proxy, before).await;
    within(
        BACK.saturating_sub(watching),
        "a change during an outage is answered after it",
        async || {
            let bound = plant.status().await.bound_members;
            if bound == Some(2) {
                Ok(())
            } else {
                Err(format!("{bound:?} members"))
            }
        },
    )
    .await;
    println!(
        "R4: {line:?} for {} s: watches back after {} ms, change answered after {} ms",
        length.as_secs(),
        watching.as_millis(),
        healed.elapsed().as_millis()
    );
    plant.bound("all pods are bound after an outage").await;
    quiet(&operator.proxy, "after an outage").await;
}

#[tokio::test]
async fn r4_a_server_that_falls_silent() {
    // So long that connections from before are still trusted when the server speaks again; and so long that
    // none of them is.
    let length = form((15, 120));
    outage("mute", Line::Mute, Duration::from_secs(length)).await;
}

#[tokio::test]
async fn r4_a_server_that_refuses_connections() {
    outage("refused", Line::Refused, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn r4_a_server_that_resets_connections() {
    outage("reset", Line::Reset, Duration::from_secs(10)).await;
}
