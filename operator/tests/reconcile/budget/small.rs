//! Figures that are one number each.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use connector_config::annotation;
use futures::{StreamExt, stream};
use kube::api::{DeleteParams, Patch, PatchParams};
use operator::{apply::FIELD_MANAGER, desired::ChildKind};
use rustix::process::Signal;
use serde_json::json;

use super::{edit, marks::Marks, median, rounds, table::Table, written};
use crate::{
    fleet,
    outage::watches_back,
    plant::Plant,
    process::{Process, Way},
    proxy::Proxy,
    released::Applied,
    wait::{PATIENCE, form, settled, within},
    wire::Line,
};

/// Between two looks at something that is measured in seconds.
const LOOK: Duration = Duration::from_millis(10);
/// Longer than a watch lasts.
const STEADY: Duration = Duration::from_secs(30);
/// Edits whose latency is measured; each of another connector, since the next one of the same waits its turn.
const EDITS: usize = 200;

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// Makes connectors and waits until all is done.
pub async fn filled(plant: &Plant, operator: &Process, which: Range<usize>, table: &mut Table) {
    let (begun, more, size) = (Instant::now(), which.len(), which.end);
    let used = operator.processor();
    fleet::create(plant, which).await;
    fleet::converged(plant, operator.probe, size).await;
    table.tell(&format!("{more} connectors made"), seconds(begun), "s");
    let each = (operator.processor() - used).as_secs_f64() * 1e3 / more as f64;
    table.tell("processor time for each of them", each, "ms");
}

/// From a changed secret to the changed Deployment.
pub async fn rotation(plant: &Plant, table: &mut Table) {
    plant.secret("rotated", &[("service", "s0")]).await;
    plant
        .create("rotated", |spec| {
            spec["replicas"] = json!(0);
            spec["iotHub"]["connectionString"]["secretKeyRef"]["name"] = json!("rotated");
        })
        .await;
    let deployments = plant.children(ChildKind::Deployment);
    let digest = async || {
        let found = deployments.get_opt("rotated-connector").await.unwrap()?;
        let annotations = &found.data["spec"]["template"]["metadata"]["annotations"];
        Some(annotations[annotation::SECRET_DIGEST].to_string())
    };
    let mut slowest = 0.0_f64;
    for round in 0..=rounds() {
        let before = digest().await;
        let begun = Instant::now();
        let value = format!("s{round}");
        // At first the connector is being made.
        if round > 0 {
            plant.secret("rotated", &[("service", &value)]).await;
        }
        let rolled = async || {
            while digest().await == before {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, rolled()).await.unwrap();
        if round > 0 {
            slowest = slowest.max(seconds(begun));
        }
    }
    table.most(
        "from a rotated secret to the rollout, slowest",
        slowest,
        "s",
        5.0,
    );
    // Those that follow are counted.
    plant
        .connectors()
        .delete("rotated", &DeleteParams::background())
        .await
        .unwrap();
}

/// From the end of the one that leads to another that does.
pub async fn take_over(plant: &Plant, leader: Process, table: &mut Table) -> Process {
    let mut leader = leader;
    for (signal, what, budget) in [
        (Signal::TERM, "take-over after SIGTERM, slowest", 2.0),
        // The Lease's duration, and a look of the one that stands by.
        (Signal::KILL, "take-over after SIGKILL, slowest", 16.0),
    ] {
        let mut slowest = 0.0_f64;
        for _ in 0..rounds() {
            let next = Process::start(plant, &Way::Direct);
            next.probe.ready().await;
            let begun = Instant::now();
            leader.signal(signal);
            let leads = async {
                while !next.probe.leading().await {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::time::timeout(PATIENCE, leads).await.unwrap();
            slowest = slowest.max(seconds(begun));
            leader = next;
        }
        table.most(what, slowest, "s", budget);
    }
    leader
}

/// A silent server, and how long after it each watch is back: of one that stands by, since who leads ends
/// when it cannot renew its Lease.
pub async fn outage(plant: &Plant, table: &mut Table) {
    let length = form((15, 120));
    let proxy = Proxy::new(plant.plane, &plant.user()).await;
    let stands_by = Process::start(plant, &Way::Through(&proxy));
    stands_by.probe.ready().await;
    proxy.line(Line::Mute);
    tokio::time::sleep(Duration::from_secs(length)).await;
    let before = proxy.seen().len();
    proxy.line(Line::Open);
    let took = watches_back(&proxy, before).await;
    let what = format!("all watches back after {length} s of silence");
    table.most(&what, took.as_secs_f64(), "s", 30.0);
}

/// Nothing happens, and nothing is written.
pub async fn steady(operator: &Process, table: &mut Table) {
    let (before, used) = (written(operator).await, operator.processor());
    tokio::time::sleep(STEADY).await;
    let what = format!("writes in {} s of a steady state", STEADY.as_secs());
    table.most(&what, written(operator).await - before, "", 0.0);
    let share = (operator.processor() - used).as_secs_f64() / STEADY.as_secs_f64();
    table.tell("of a processor in a steady state", share * 100.0, "%");
}

/// Somebody touches a child of each connector: each is looked at, and nothing is to be done.
pub async fn no_ops(plant: &Plant, operator: &Process, size: usize, table: &mut Table) {
    let looks = || {
        operator
            .probe
            .metric("reconciles_total", "outcome=\"unchanged\"")
    };
    let (before, used) = (looks().await, operator.processor());
    let writes = written(operator).await;
    let accounts = plant.children(ChildKind::ServiceAccount);
    let touch = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
    stream::iter(0..size)
        .for_each_concurrent(fleet::AT_ONCE, async |n| {
            let name = format!("{}-connector", fleet::name(n));
            accounts
                .patch(&name, &PatchParams::default(), &touch)
                .await
                .unwrap();
        })
        .await;
    within(PATIENCE, "each connector is looked at", async || {
        match looks().await - before {
            done if done >= size as f64 => Ok(()),
            done => Err(format!("{done} looks")),
        }
    })
    .await;
    let done = looks().await - before;
    let each = (operator.processor() - used).as_secs_f64() * 1e3 / done;
    table.most(
        "processor time of a look that finds nothing to do",
        each,
        "ms",
        1.0,
    );
    let writes = written(operator).await - writes;
    table.most("writes of 1,000 such looks", writes, "", 0.0);
}

/// One edit at a time: from the answer to the user until the Deployment is changed. Beside it, how long the
/// API server takes for such a change.
pub async fn edits(plant: &Plant, size: usize, table: &mut Table) {
    let mut children = Marks::of_children(plant);
    let mut ours = Vec::new();
    for n in 0..EDITS.min(size) {
        let mark = format!("edit-{n}");
        edit(plant, n, &mark).await;
        let begun = Instant::now();
        let seen = children
            .one(&format!("{}-connector", fleet::name(n)), &mark)
            .await;
        ours.push(seen.saturating_duration_since(begun).as_secs_f64() * 1e3);
    }
    let mut theirs = Vec::new();
    let deployments = plant.children(ChildKind::Deployment);
    for n in 0..EDITS.min(size) {
        // The same words by another name, so that the operator finds nothing amiss.
        let name = format!("{}-connector", fleet::name(n));
        let live = serde_json::to_value(deployments.get(&name).await.unwrap()).unwrap();
        let object = Applied::of(&live).object;
        let begun = Instant::now();
        let force = PatchParams::apply(&format!("not-{FIELD_MANAGER}")).force();
        deployments
            .patch(&name, &force, &Patch::Apply(&object))
            .await
            .unwrap();
        theirs.push(seconds(begun) * 1e3);
    }
    let slowest = |all: &mut Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() * 99 / 100]
    };
    table.most(
        "edit to changed Deployment, p99",
        slowest(&mut ours),
        "ms",
        100.0,
    );
    table.tell("edit to changed Deployment, p50", median(ours), "ms");
    table.tell("an apply alone, p99", slowest(&mut theirs), "ms");
    table.tell("an apply alone, p50", median(theirs), "ms");
}

/// What is asked of the API server for an edit that changes one child.
pub async fn requests(plant: &Plant, size: usize, table: &mut Table) {
    let proxy = Proxy::new(plant.plane, &plant.user()).await;
    let operator = Process::leading(plant, &Way::Through(&proxy)).await;
    fleet::converged(plant, operator.probe, size).await;
    settled(&proxy).await;
    let before = proxy.seen().len();
    let edits = 50.min(size);
    for n in 0..edits {
        edit(plant, n, "counted").await;
    }
    fleet::converged(plant, operator.probe, size).await;
    settled(&proxy).await;
    let seen = proxy.seen().split_off(before);
    let asked = seen
        .iter()
        .filter(|seen| seen.call.verb != "watch" && !seen.call.elects());
    let (statuses, others): (Vec<_>, Vec<_>) =
        asked.partition(|seen| seen.call.resource == "azureiothubconnectors/status");
    let each = |n: usize| n as f64 / edits as f64;
    table.most(
        "requests for an edit that changes one child",
        each(others.len()),
        "",
        1.0,
    );
    // Once for the edit, and once when the rollout has ended that it began.
    table.most(
        "answers to it and to the end of its rollout",
        each(statuses.len()),
        "",
        2.0,
    );
}

/// A process that knows nothing, in a cluster where all is done.
pub async fn cold_start(plant: &Plant, size: usize, table: &mut Table) -> Process {
    let begun = Instant::now();
    let operator = Process::start(plant, &Way::Direct);
    let ready = async {
        while operator.probe.get("/readyz").await.0 != 200 {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
    let took = seconds(begun);
    operator.probe.leads("a lone operator leads").await;
    within(PATIENCE, "each connector is looked at", async || {
        let looks = operator.probe.metric("reconciles_total", "").await;
        match looks >= size as f64 && operator.probe.metric("workqueue_depth", "").await == 0.0 {
            true => Ok(()),
            false => Err(format!("{looks} looks")),
        }
    })
    .await;
    match size {
        super::SIZE => table.most(
            "cold start with 1,000 connectors until ready",
            took,
            "s",
            5.0,
        ),
        size => table.tell(
            &format!("cold start with {size} connectors until ready"),
            took,
            "s",
        ),
    }
    let what = format!("writes of a cold start with {size} connectors");
    table.most(&what, written(&operator).await, "", 0.0);
    operator
}
