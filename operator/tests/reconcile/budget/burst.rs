//! A thousand edits as fast as the API server takes them.

use std::time::Instant;

use futures::{StreamExt, channel::mpsc, stream};
use kube::api::{DynamicObject, Patch, PatchParams};
use operator::{apply::FIELD_MANAGER, desired::ChildKind};
use serde_json::{Value, json};

use super::{edit, marks::Marks, median, table::Table, written};
use crate::{
    fleet,
    plant::Plant,
    process::{Process, Way},
    released::Applied,
};

/// Resources that the bare loop carries out at a time: as many as the operator.
const WORKERS: usize = 8;

/// The operator carries out a burst; how long it takes, and with how many writes.
async fn operators(plant: &Plant, operator: &Process, size: usize, mark: &str) -> (f64, f64) {
    let (mut children, mut answers) = (Marks::of_children(plant), Marks::of_answers(plant));
    let before = written(operator).await;
    let begun = Instant::now();
    stream::iter(0..size)
        .for_each_concurrent(fleet::AT_ONCE, async |n| drop(edit(plant, n, mark).await))
        .await;
    children.all(mark, size).await;
    answers.all(mark, size).await;
    let took = begun.elapsed().as_secs_f64();
    (took, written(operator).await - before)
}

/// The Deployments of the fleet as the operator applied them.
async fn applied(plant: &Plant, size: usize) -> Vec<Value> {
    let api = plant.children(ChildKind::Deployment);
    let mut found = Vec::new();
    for n in 0..size {
        let live = api
            .get(&format!("{}-connector", fleet::name(n)))
            .await
            .unwrap();
        let live = serde_json::to_value(live).unwrap();
        found.push(Applied::of(&live).object);
    }
    found
}

/// One worker's part: the Deployment, and `answers` times the status.
async fn carry_out(
    plant: &Plant,
    mut child: Value,
    edited: DynamicObject,
    mark: &str,
    answers: usize,
) {
    let force = PatchParams::apply(FIELD_MANAGER).force();
    child["spec"]["template"]["spec"]["nodeSelector"] = json!({ "mark": mark });
    let name = child["metadata"]["name"].as_str().unwrap().to_owned();
    let api = plant.children(ChildKind::Deployment);
    api.patch(&name, &force, &Patch::Apply(&child))
        .await
        .unwrap();
    let name = edited.metadata.name.unwrap();
    let mut status = edited.data["status"].clone();
    status["observedGeneration"] = json!(edited.metadata.generation);
    for answer in 0..answers {
        status["conditions"][0]["message"] = json!(format!("{mark} {answer}"));
        let status = json!({
            "apiVersion": "iot-connectors.dev/v1alpha1", "kind": "AzureIotHubConnector",
            "metadata": {"name": name}, "status": status,
        });
        let api = plant.untyped();
        api.patch_status(&name, &force, &Patch::Apply(&status))
            .await
            .unwrap();
    }
}

/// The same requests by a loop that knows beforehand what to write: `writes` in all.
async fn bare(plant: &Plant, size: usize, writes: f64, mark: &str) -> f64 {
    let children = applied(plant, size).await;
    let (mut seen, mut answered) = (Marks::of_children(plant), Marks::of_answers(plant));
    // Each Deployment once; the rest are answers, of which some connectors get one more than others.
    let answers = writes as usize - size;
    let (sender, receiver) = mpsc::unbounded();
    let begun = Instant::now();
    let edits = async {
        stream::iter(0..size)
            .for_each_concurrent(fleet::AT_ONCE, async |n| {
                let edited = edit(plant, n, mark).await;
                sender.unbounded_send((n, edited)).unwrap();
            })
            .await;
        sender.close_channel();
    };
    let works = receiver.for_each_concurrent(WORKERS, async |(n, edited)| {
        let share = answers / size + usize::from(n < answers % size);
        carry_out(plant, children[n].clone(), edited, mark, share).await;
    });
    futures::join!(edits, works);
    seen.all(mark, size).await;
    answered.all(mark, size).await;
    begun.elapsed().as_secs_f64()
}

/// Operator and bare loop in turn, so that both meet the same machine.
pub async fn bursts(
    plant: &Plant,
    operator: Process,
    size: usize,
    rounds: usize,
    table: &mut Table,
) {
    let mut operator = operator;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (took, writes) = operators(plant, &operator, size, &format!("ours-{round}")).await;
        ours.push(took);
        fleet::converged(plant, operator.probe, size).await;
        drop(operator);
        theirs.push(bare(plant, size, writes, &format!("theirs-{round}")).await);
        operator = Process::leading(plant, &Way::Direct).await;
        fleet::converged(plant, operator.probe, size).await;
    }
    let (ours, theirs) = (median(ours), median(theirs));
    table.tell("burst of 1,000 edits, all carried out", ours, "s");
    table.tell("the same requests by a bare loop", theirs, "s");
    let what = "burst of 1,000 edits, beside a bare loop";
    table.most(what, ours / theirs, "×", 1.25);
}
