//! A server that refuses for a while.

use std::time::{Duration, Instant};

use crate::{
    plant::Plant,
    proxy::Fault,
    wait::{long_form, quiet, within},
};

/// How long each storm lasts.
const STORM: Duration = Duration::from_secs(6);
/// Most requests in a storm: twelve watches that try twice a second, and a reconcile.
const MOST: usize = 12 * 2 * 6 + 40;
/// After the storm all must be well within this time.
const AFTER: Duration = Duration::from_secs(20);

async fn storm(id: &str, code: u16, reason: &'static str, retry_after: Option<u32>) {
    let Some(plant) = Plant::new(&format!("r6-{id}")).await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    let begun = operator.proxy.seen().len();
    operator
        .proxy
        .rule(move |_| Some(Fault::Answer(code, reason, retry_after)));
    operator.proxy.cut();
    plant.change(serde_json::json!({"replicas": 2})).await;
    tokio::time::sleep(STORM).await;
    let asked = operator.proxy.seen().len() - begun;
    println!("R6: {asked} requests in {} s of {code}", STORM.as_secs());
    assert!(
        asked < MOST,
        "broken: the rate of retries is bounded: {asked} requests of {code}"
    );
    assert_eq!(
        operator.get("/livez").await.0,
        200,
        "broken: a storm is no reason to restart"
    );
    operator.proxy.heal();
    let healed = Instant::now();
    within(
        AFTER,
        &format!("all is well after {code}, whatever Retry-After said"),
        async || {
            let ready = plant.status().await.bound_members;
            if ready == Some(2) {
                Ok(())
            } else {
                Err(format!("{ready:?} members"))
            }
        },
    )
    .await;
    println!("R6: well {} ms after {code}", healed.elapsed().as_millis());
    plant.bound("all pods are bound after a storm").await;
    quiet(&operator.proxy, "after a storm").await;
}

#[tokio::test]
async fn r6_an_hour_of_retry_after() {
    storm("hour", 429, "TooManyRequests", Some(3600)).await;
}

#[tokio::test]
async fn r6_a_server_that_is_ill() {
    storm("503", 503, "ServiceUnavailable", None).await;
    if long_form() {
        storm("429", 429, "TooManyRequests", Some(1)).await;
        storm("500", 500, "InternalError", None).await;
        storm("504", 504, "Timeout", None).await;
    }
}

#[tokio::test]
async fn r6_conflicts_of_children_and_status() {
    storm("409", 409, "Conflict", None).await;
}
