//! What the operator costs, beside a bare loop of the same requests in the same run.
//!
//! `OPERATOR=<program> cargo test --release -p operator --test reconcile -- --ignored --nocapture budgets`,
//! which `make bench` does with the program of the image. `QUICK=1`: one round of each; `SOAK=1`: 10,000
//! connectors, and an outage of two minutes. `BUDGETS=<file>` takes the table as JSON.

mod burst;
mod marks;
mod small;
mod table;

use std::time::Duration;

use crate::{
    fleet,
    plant::Plant,
    process::{Process, Way},
    wait::long_form,
};

use table::Table;

/// Connectors of most figures.
const SIZE: usize = 1_000;
/// And in the long form.
const LARGE: usize = 10_000;

fn rounds() -> usize {
    if std::env::var_os("QUICK").is_some_and(|value| !value.is_empty()) {
        1
    } else {
        3
    }
}

/// The middle one.
fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for minutes, alone on the machine: tests/e2e/run bench"]
async fn budgets() {
    let Some(plant) = Plant::new("budgets").await else {
        return;
    };
    let mut table = Table::default();
    let operator = Process::leading(&plant, &Way::Direct).await;
    // What a start needs is given back by then, or never.
    tokio::time::sleep(Duration::from_secs(3)).await;
    table.most("memory without connectors", operator.memory(), "MiB", 20.0);
    small::rotation(&plant, &mut table).await;
    let operator = small::take_over(&plant, operator, &mut table).await;
    small::outage(&plant, &mut table).await;

    small::filled(&plant, &operator, 0..SIZE, &mut table).await;
    let memory = operator.memory();
    table.most("memory with 1,000 connectors", memory, "MiB", 70.0);
    small::steady(&operator, &mut table).await;
    small::no_ops(&plant, &operator, SIZE, &mut table).await;
    small::edits(&plant, SIZE, &mut table).await;
    drop(operator);
    small::requests(&plant, SIZE, &mut table).await;
    let operator = small::cold_start(&plant, SIZE, &mut table).await;
    burst::bursts(&plant, operator, SIZE, rounds(), &mut table).await;

    if long_form() {
        let operator = Process::leading(&plant, &Way::Direct).await;
        small::filled(&plant, &operator, SIZE..LARGE, &mut table).await;
        let memory = operator.memory();
        table.most("memory with 10,000 connectors", memory, "MiB", 450.0);
        drop(operator);
        small::cold_start(&plant, LARGE, &mut table).await;
    }
    table.end();
}

/// All that the operator has written of connectors, by its own account.
async fn written(operator: &Process) -> f64 {
    let children = operator.probe.metric("child_writes_total", "").await;
    children + operator.probe.metric("status_writes_total", "").await
}

/// Marks a connector: its Deployment gets another selector of nodes and nothing else changes.
async fn edit(plant: &Plant, n: usize, mark: &str) -> kube::api::DynamicObject {
    let patch = serde_json::json!({"spec": {"pod": {"nodeSelector": {"mark": mark}}}});
    let patch = kube::api::Patch::Merge(&patch);
    plant
        .untyped()
        .patch(&fleet::name(n), &Default::default(), &patch)
        .await
        .unwrap()
}
