//! As many connectors as a cluster may have.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{
    fleet,
    plant::Plant,
    process::{Process, Way},
    proxy::{Proxy, Seen},
    wait::{PATIENCE, form, quiet, quiet_for, settled, within},
};

/// Longer than a watch lasts, so that each is renewed in it.
const STEADY: Duration = Duration::from_secs(25);
/// Most connectors, and the most memory with them in MiB, as the budgets say.
const SHORT: &[(usize, f64)] = &[(200, 70.0)];
const LONG: &[(usize, f64)] = &[(1_000, 70.0), (10_000, 450.0)];

/// Neither a watch nor the election.
fn asks(seen: &Seen) -> bool {
    seen.call.verb != "watch" && !seen.call.elects()
}

fn words(seen: &[Seen]) -> Vec<String> {
    let asked = seen.iter().filter(|seen| asks(seen));
    let word = |seen: &Seen| {
        format!(
            "{} {} {}",
            seen.call.verb, seen.call.resource, seen.call.name
        )
    };
    asked.map(word).take(10).collect()
}

/// In a steady state nothing is asked and nothing written but what keeps watches and Lease.
async fn steady(proxy: &Proxy, size: usize) {
    let when = format!("with {size} connectors in a steady state");
    settled(proxy).await;
    let before = proxy.seen().len();
    quiet_for(STEADY, proxy, &when).await;
    let seen = proxy.seen();
    assert!(
        !seen[before..].iter().any(asks),
        "broken: nothing is asked {when}: {:?}",
        words(&seen[before..])
    );
    let watches = seen[before..]
        .iter()
        .filter(|seen| seen.call.verb == "watch");
    assert!(watches.count() > 0, "no watch was renewed in the time");
}

/// Another process knows the cluster and has looked at each connector.
async fn cold(plant: &Plant, proxy: &Proxy, size: usize) -> Process {
    let before = proxy.seen().len();
    let begun = Instant::now();
    let operator = Process::start(plant, &Way::Through(proxy));
    operator.probe.ready().await;
    let ready = begun.elapsed();
    operator.probe.leads("a lone operator leads").await;
    let patience = PATIENCE + Duration::from_millis(500) * u32::try_from(size).unwrap();
    within(patience, "each connector is looked at", async || {
        let looks = operator.probe.metric("reconciles_total", "").await;
        let left = operator.probe.metric("workqueue_depth", "").await;
        match looks as usize >= size && left == 0.0 {
            true => Ok(()),
            false => Err(format!("{looks} looks, {left} wait")),
        }
    })
    .await;
    println!(
        "N1: {size} connectors: cold start ready after {ready:.1?}, all looked at after {:.1?}, {:.1} MiB",
        begun.elapsed(),
        operator.memory()
    );
    let seen = proxy.seen();
    let written: Vec<_> = seen[before..]
        .iter()
        .filter(|seen| seen.call.writes())
        .cloned()
        .collect();
    assert!(
        !written.iter().any(asks),
        "broken: a cold start writes nothing: {:?}",
        words(&written)
    );
    operator
}

#[tokio::test]
async fn n1_many_connectors_are_made_and_cost_nothing_afterwards() {
    let Some(plant) = Plant::new("n1").await else {
        return;
    };
    let proxy = Proxy::new(plant.plane, &plant.user()).await;
    let mut operator = Process::leading(&plant, &Way::Through(&proxy)).await;
    println!("N1: {:.1} MiB without connectors", operator.memory());
    let mut made = 0;
    for &(size, memory) in form((SHORT, LONG)) {
        let begun = Instant::now();
        fleet::create(&plant, made..size).await;
        fleet::converged(&plant, operator.probe, size).await;
        println!(
            "N1: {size} connectors: made after {:.1?}, {:.1?} of it the operator's, {:.1} MiB",
            begun.elapsed(),
            operator.processor(),
            operator.memory()
        );
        made = size;
        steady(&proxy, size).await;
        operator.signal(Signal::TERM);
        operator.ended(PATIENCE, "a signal ends the operator").await;
        operator = cold(&plant, &proxy, size).await;
        quiet(&proxy, "after a cold start").await;
        let holds = operator.memory();
        assert!(
            holds <= memory,
            "broken: {size} connectors fit into {memory} MiB: {holds:.1}"
        );
    }
}
