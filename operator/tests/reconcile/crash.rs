//! An operator that ends in the middle, and answers that get lost.

use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::json;

use crate::{
    plant::Plant,
    proxy::Fault,
    snapshot::Snapshot,
    wait::{form, quiet, quiet_for},
};

/// How long nothing may be written after each fault of a sweep.
const AT_EACH: Duration = Duration::from_secs(2);
/// Faults that are tried side by side: more would only wait for the controllers.
const AT_ONCE: usize = 8;

/// A life of a connector that leads through every kind of write: made, changed so that the settings get
/// another name, and the old settings removed.
async fn live(plant: &Plant) {
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    plant.change(json!({"thingworx": {"pipes": 2}})).await;
}

/// What an operator that nobody disturbs makes of it, and with how many writes.
async fn undisturbed(id: &str) -> Option<(Snapshot, usize)> {
    let plant = Plant::new(&format!("{id}-0")).await?;
    let operator = plant.operator().await;
    live(&plant).await;
    plant.bound("a changed connector becomes ready").await;
    quiet(&operator.proxy, "after a change").await;
    let settings = plant.snapshot().await;
    assert_eq!(
        settings.count("ConfigMap"),
        1,
        "broken: settings that no pod uses go"
    );
    Some((settings, operator.proxy.writes()))
}

/// Lives with a fault at the n-th write; the fault may end the operator, and another one takes over.
async fn disturbed(id: &str, n: usize, fault: Fault, expected: &Snapshot) {
    let plant = Plant::new(&format!("{id}-{n}")).await.unwrap();
    let operator = plant.operator().await;
    let crashes = matches!(fault, Fault::Crash);
    operator
        .proxy
        .rule(move |call| (call.write == Some(n)).then(|| fault.clone()));
    let living = live(&plant);
    let operator = if crashes {
        let crash = async {
            // Fewer writes than in the undisturbed life: nothing to disturb.
            let patience = Duration::from_secs(20);
            let _ = tokio::time::timeout(patience, operator.proxy.crashed()).await;
            operator.proxy.heal();
            operator.restart(plant.plane).await
        };
        tokio::join!(living, crash).1
    } else {
        living.await;
        operator
    };
    let promise = format!("all is as in an undisturbed life after a fault at write {n}");
    plant.becomes(&promise, expected).await;
    let when = format!("after a fault at write {n}");
    quiet_for(AT_EACH, &operator.proxy, &when).await;
}

/// Tries the fault at every second write, beginning with the `first`, or at each of them in the long form. The
/// two sweeps take turns, so that the short form leaves no write out.
async fn sweep(id: &str, fault: Fault, first: usize) {
    let Some((expected, writes)) = undisturbed(id).await else {
        return;
    };
    println!("{id}: {writes} writes in an undisturbed life");
    assert!(writes >= 10, "{writes} writes are too few to be true");
    let step = form((2, 1));
    stream::iter((first..=writes).step_by(step))
        .for_each_concurrent(AT_ONCE, |n| disturbed(id, n, fault.clone(), &expected))
        .await;
}

#[tokio::test]
async fn r1_an_operator_that_ends_after_any_write_is_followed_by_one_that_converges() {
    sweep("r1", Fault::Crash, 1).await;
}

#[tokio::test]
async fn r2_a_lost_answer_to_any_write_does_no_harm() {
    sweep("r2", Fault::Lose, 2).await;
}
