//! Nothing is written when nothing changes.

use crate::{
    plant::Plant,
    wait::{quiet, quiet_for, settled, steady},
};

#[tokio::test]
async fn q1_a_steady_state_is_not_written() {
    let Some(plant) = Plant::new("q1").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(2).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    let before = plant.written().await;
    quiet_for(steady(), &operator.proxy, "in a steady state").await;
    assert_eq!(
        plant.written().await,
        before,
        "broken: children are left alone"
    );
}

#[tokio::test]
async fn q2_a_restart_in_a_steady_state_writes_nothing() {
    let Some(plant) = Plant::new("q2").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(2).await;
    plant.bound("a new connector becomes ready").await;
    quiet(&operator.proxy, "in a steady state").await;
    let before = plant.written().await;
    let operator = operator.restart(plant.plane).await.ready().await;
    quiet(&operator.proxy, "after a restart in a steady state").await;
    assert_eq!(
        plant.written().await,
        before,
        "broken: children are left alone"
    );
}
