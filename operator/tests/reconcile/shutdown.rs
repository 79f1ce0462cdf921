//! Ends by a signal, whatever the API server does just then.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    election::holder,
    plant::Plant,
    process::{Process, Way},
    proxy::{Fault, Proxy},
    wire::Line,
};

/// The chart's `terminationGracePeriodSeconds`; then the kubelet kills.
const GRACE: Duration = Duration::from_secs(30);

async fn terminated(operator: &mut Process) -> std::process::ExitStatus {
    let begun = Instant::now();
    operator.signal(Signal::TERM);
    let status = operator
        .ended(GRACE, "a signal ends the operator within its grace")
        .await;
    println!("Z3: ended after {:.1?}: {status}", begun.elapsed());
    status
}

#[tokio::test]
async fn z3_a_signal_during_a_write_that_hangs_ends_in_time_and_releases_the_lease() {
    let Some(plant) = Plant::new("z3").await else {
        return;
    };
    let proxy = Proxy::new(plant.plane, &plant.user()).await;
    let mut operator = Process::leading(&plant, &Way::Through(&proxy)).await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    proxy.rule(|call| (call.writes() && call.resource == "deployments").then_some(Fault::Crash));
    plant.change(json!({"replicas": 2})).await;
    proxy.crashed().await;
    let status = terminated(&mut operator).await;
    assert!(status.success(), "broken: a signal is no failure: {status}");
    assert_eq!(
        holder(&plant).await,
        "",
        "broken: whoever ends releases the Lease"
    );
    proxy.heal();
    let _next = Process::leading(&plant, &Way::Through(&proxy)).await;
    plant.bound("the next one does what was begun").await;
}

#[tokio::test]
async fn z3_a_signal_while_the_server_is_silent_ends_in_time() {
    let Some(plant) = Plant::new("z3-silent").await else {
        return;
    };
    let proxy = Proxy::new(plant.plane, &plant.user()).await;
    let mut operator = Process::leading(&plant, &Way::Through(&proxy)).await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    proxy.line(Line::Mute);
    terminated(&mut operator).await;
}
