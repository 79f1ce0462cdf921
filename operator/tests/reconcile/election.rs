//! Of several operators one writes, and another takes over.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    call::Call,
    instance::Instance,
    plant::Plant,
    wait::{settled, steady},
    wire::Line,
};

/// The operators' Lease, if there is one.
async fn lease(plant: &Plant) -> Option<LeaseSpec> {
    let api: Api<Lease> = Api::namespaced(plant.client.clone(), &plant.namespace);
    let lease = api.get_opt("azure-iot-hub-operator").await.unwrap();
    lease.and_then(|lease| lease.spec)
}

/// Who holds it; empty if nobody does.
pub async fn holder(plant: &Plant) -> String {
    let spec = lease(plant).await;
    spec.and_then(|spec| spec.holder_identity)
        .unwrap_or_default()
}

/// An operator that leads, and one that stands by.
async fn two(plant: &Plant) -> (Instance, Instance) {
    let first = plant.candidate().await;
    first.probe.leads("the first operator leads").await;
    let second = plant.candidate().await;
    assert!(!second.probe.leading().await, "broken: one leads");
    (first, second)
}

/// Waits until the other operator leads; after how long.
async fn taken_over(plant: &Plant, operator: &Instance) -> Duration {
    let begun = Instant::now();
    operator.probe.leads("the other operator leads").await;
    let took = begun.elapsed();
    println!("taken over after {took:.1?} by {}", holder(plant).await);
    took
}

#[tokio::test]
async fn q3_of_two_operators_in_a_steady_state_neither_writes_children() {
    let Some(plant) = Plant::new("q3").await else {
        return;
    };
    let (first, second) = two(&plant).await;
    plant.connect(2).await;
    plant.bound("a new connector becomes ready").await;
    settled(&first.proxy).await;
    let (before, written) = (plant.written().await, first.proxy.writes());
    sleep(steady()).await;
    assert_eq!(
        first.proxy.writes(),
        written,
        "broken: a steady state is not written"
    );
    assert_eq!(
        second.proxy.count(Call::writes),
        0,
        "broken: who stands by writes nothing, not even the Lease"
    );
    assert_eq!(
        plant.written().await,
        before,
        "broken: children are left alone"
    );
}

#[tokio::test]
async fn e1_after_a_signal_another_leads_long_before_the_lease_runs_out() {
    let Some(plant) = Plant::new("e1").await else {
        return;
    };
    let (first, second) = two(&plant).await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    first.stop().await;
    let took = taken_over(&plant, &second).await;
    assert!(
        took < Duration::from_secs(10),
        "broken: whoever ends releases the Lease; another took {took:?}"
    );
    // It knows the cluster and does the work.
    plant.change(json!({ "replicas": 3 })).await;
    plant
        .bound("an edit after the take-over is carried out")
        .await;
}

#[tokio::test]
async fn e1_after_a_kill_another_leads_once_the_lease_has_run_out() {
    let Some(plant) = Plant::new("e1k").await else {
        return;
    };
    let (first, second) = two(&plant).await;
    first.crash().await;
    let renewed = lease(&plant).await.and_then(|lease| lease.renew_time);
    taken_over(&plant, &second).await;
    // The second counts from when it saw the last renewal, which was later.
    let took = Timestamp::now().duration_since(renewed.unwrap().0);
    assert!(
        took >= SignedDuration::from_secs(15),
        "broken: nobody leads before the Lease has run out; another took {took:?}"
    );
}

#[tokio::test]
async fn e3_a_leader_that_is_cut_off_stops_before_another_may_begin() {
    let Some(plant) = Plant::new("e3").await else {
        return;
    };
    let (first, second) = two(&plant).await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    first.proxy.line(Line::Mute);
    let cut = Instant::now();
    let mut stopped = None;
    while !second.probe.leading().await {
        if stopped.is_none() && first.ended() {
            stopped = Some(cut.elapsed());
        }
        assert!(
            cut.elapsed() < Duration::from_secs(30),
            "broken: another takes over"
        );
        sleep(Duration::from_millis(100)).await;
    }
    let stopped = stopped.expect("broken: the first has stopped before the second leads");
    println!(
        "stopped after {stopped:.1?}, taken over after {:.1?}",
        cut.elapsed()
    );
}
