//! Hands off.

use serde_json::json;

use crate::{
    plant::{NAME, Plant},
    wait::{quiet, settled},
};

fn annotated(value: &serde_json::Value) -> serde_json::Value {
    json!({"metadata": {"annotations": {"iot-connectors.dev/paused": value}}})
}

#[tokio::test]
async fn p1_a_paused_connector_is_left_alone_and_says_so() {
    let Some(plant) = Plant::new("p1").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    plant.merge(&annotated(&json!("true"))).await.unwrap();
    plant
        .says("a paused connector says so", "Paused", "True Paused")
        .await;
    plant.bound("a pause alone changes nothing").await;

    let children = plant.written().await;
    plant
        .change(json!({"replicas": 2, "thingworx": {"pipes": 2}}))
        .await;
    plant.secret("factory-hub", &[("service", "s2")]).await;
    let held = "a change that waits is no readiness";
    plant.says(held, "Ready", "Unknown Paused").await;
    // Another operator finds the same.
    let operator = operator.restart(plant.plane).await.ready().await;
    quiet(&operator.proxy, "while paused").await;
    assert_eq!(
        plant.written().await,
        children,
        "broken: nothing is written while paused"
    );

    plant.merge(&annotated(&json!(null))).await.unwrap();
    plant.bound("what waited is done when the pause ends").await;
    plant
        .says("the pause has ended", "Paused", "False NotPaused")
        .await;
    let deployment = plant.children(operator::desired::ChildKind::Deployment);
    let found = deployment.get(&format!("{NAME}-connector")).await.unwrap();
    assert_eq!(found.data["spec"]["replicas"], 2);
}
