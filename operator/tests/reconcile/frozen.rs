//! A leader that stands still, as under a hypervisor that is short of memory, and goes on as if nothing
//! had happened.

use std::time::Duration;

use operator::desired::ChildKind;
use rustix::process::Signal;
use serde_json::json;

use crate::{
    call::Call,
    expiry::{delete, made_again},
    plant::Plant,
    process::{Process, Way},
    proxy::{Fault, Proxy},
    wait::{PATIENCE, eventually, quiet},
};

/// Longer than it takes to freeze a process on a busy machine, shorter than the Lease.
const ANSWER: Duration = Duration::from_secs(10);

fn settings_written(call: &Call) -> bool {
    call.writes() && call.resource == "configmaps"
}

#[tokio::test]
async fn e2_a_leader_that_was_frozen_past_its_lease_writes_nothing_with_it() {
    let Some(plant) = Plant::new("e2").await else {
        return;
    };
    let ways = [
        Proxy::new(plant.plane, &plant.user()).await,
        Proxy::new(plant.plane, &plant.user()).await,
    ];
    let mut first = Process::leading(&plant, &Way::Through(&ways[0])).await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    let second = Process::start(&plant, &Way::Through(&ways[1]));
    second.probe.ready().await;

    // In the middle of a rollout: the answer to its write of the settings finds it frozen, and what follows
    // is the Deployment that mounts them.
    let before = ways[0].count(settings_written);
    ways[0].rule(|call| settings_written(call).then_some(Fault::Delay(ANSWER)));
    plant.change(json!({"thingworx": {"pipes": 2}})).await;
    eventually("a change is carried out", async || {
        match ways[0].count(settings_written) > before {
            true => Ok(()),
            false => Err("no settings are written".to_owned()),
        }
    })
    .await;
    first.signal(Signal::STOP);
    let frozen = ways[0].writes();
    second
        .probe
        .leads("another takes over from one that is frozen")
        .await;
    plant.bound("another ends what was begun").await;
    plant.change(json!({"thingworx": {"pipes": 3}})).await;
    plant.bound("another carries out what is new").await;
    // One more that the first would like to make again as soon as it sees it.
    delete(&plant, ChildKind::Role).await;
    made_again(
        &plant,
        ChildKind::Role,
        "another makes a deleted child again",
    )
    .await;
    quiet(&ways[1], "once another has done all").await;
    let children = plant.written().await;

    first.signal(Signal::CONT);
    let status = first
        .ended(PATIENCE, "whoever has lost the Lease ends")
        .await;
    let after = ways[0].writes() - frozen;
    println!("E2: {status} with {after} writes after the thaw");
    assert!(!status.success(), "broken: a lost Lease is a failure");
    assert_eq!(after, 0, "broken: nothing is written with a lost Lease");
    assert_eq!(
        plant.written().await,
        children,
        "broken: children are the next one's alone"
    );
    assert!(second.probe.leading().await, "broken: the second leads on");
}
