//! Two operators with different Leases see the same connectors.

use connector_config::annotation;
use serde_json::json;

use crate::{
    call::Call,
    instance::Instance,
    plant::{NAME, Plant},
    proxy::Proxy,
    wait::{eventually, quiet, settled},
};

/// Writes of children, of one connector or of all (empty).
fn children(proxy: &Proxy, connector: &str) -> usize {
    proxy.count(|call: &Call| call.writes_child() && call.name.starts_with(connector))
}

async fn message(plant: &Plant) -> Option<String> {
    let conditions = plant.status().await.conditions;
    let found = conditions
        .into_iter()
        .find(|condition| condition.type_ == "OperatorConflict");
    found.map(|condition| condition.message)
}

/// Waits until a second operator has said that this one manages the test's connector.
async fn told(plant: &Plant, manager: &str, command: &str) {
    eventually(
        "a second operator says who manages and what to do",
        async || {
            let said = message(plant).await.unwrap_or_default();
            let tells = said.starts_with(&format!("managed by the operator {manager}"));
            (tells && said.ends_with(command)).then_some(()).ok_or(said)
        },
    )
    .await;
}

fn command(namespace: &str, operator: &str) -> String {
    format!(
        "kubectl annotate aihc {NAME} -n {namespace} {}={operator} --overwrite",
        annotation::OPERATOR
    )
}

#[tokio::test]
async fn e4_a_second_operator_stays_away_until_a_connector_is_handed_over() {
    let Some(plant) = Plant::new("e4").await else {
        return;
    };
    let (one, two) = ("e4/one", "e4/two");
    let first = plant.told(&["--lease-name=one"]).await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    let second = plant.told(&["--lease-name=two"]).await;
    told(&plant, one, &command("e4", two)).await;
    assert_eq!(plant.status().await.operator.as_deref(), Some(one));
    plant.change(json!({"thingworx": {"pipes": 2}})).await;
    plant.bound("the first operator works on").await;
    quiet(&first.proxy, "beside a second operator").await;
    quiet(&second.proxy, "beside a first operator").await;
    assert_eq!(
        children(&second.proxy, ""),
        0,
        "broken: a second operator writes no children"
    );
    assert!(
        message(&plant).await.is_some(),
        "broken: the first does not fight over what the second says"
    );
    let second = second.restart(plant.plane).await.ready().await;
    quiet(&second.proxy, "after a restart beside a first operator").await;

    let written = children(&first.proxy, "");
    let annotations = json!({annotation::OPERATOR: two});
    plant
        .merge(&json!({"metadata": {"annotations": annotations}}))
        .await
        .unwrap();
    told(&plant, two, &command("e4", one)).await;
    plant.change(json!({"replicas": 2})).await;
    plant.bound("who takes over does the work").await;
    assert_eq!(plant.status().await.operator.as_deref(), Some(two));
    quiet(&first.proxy, "after handing over").await;
    quiet(&second.proxy, "after taking over").await;
    assert_eq!(
        children(&first.proxy, ""),
        written,
        "broken: who has handed over writes no children"
    );

    // The new one stays the manager without the annotation, and says nothing of an operator that is gone.
    first.stop().await;
    plant
        .merge(&json!({"metadata": {"annotations": {annotation::OPERATOR: null}}}))
        .await
        .unwrap();
    plant.change(json!({"replicas": 1})).await;
    plant.bound("the second stays the manager").await;
    settled(&second.proxy).await;
}

#[tokio::test]
async fn e4_of_two_operators_that_come_at_once_one_manages_each_connector() {
    let Some(plant) = Plant::new("e4-race").await else {
        return;
    };
    let first = plant.told(&["--lease-name=one"]).await;
    let second = plant.told(&["--lease-name=two"]).await;
    let names: Vec<_> = (0..6).map(|n| format!("race-{n}")).collect();
    for name in &names {
        plant.create(name, |_| {}).await;
    }
    for name in &names {
        eventually(
            "each connector has a manager and another that stays away",
            async || {
                let status = plant.status_of(name).await;
                let is = crate::plant::condition(&status, "OperatorConflict");
                let ready = crate::plant::condition(&status, "Ready");
                match (&*is, &*ready) {
                    ("True ManagedByAnother", "True AllMembersBound") => Ok(()),
                    _ => Err(format!("{is}, {ready}")),
                }
            },
        )
        .await;
    }
    settled(&first.proxy).await;
    settled(&second.proxy).await;
    for name in &names {
        let (one, two) = (children(&first.proxy, name), children(&second.proxy, name));
        let manager = plant.status_of(name).await.operator.unwrap_or_default();
        let stranger = if manager == "e4-race/one" { two } else { one };
        assert_eq!(
            stranger, 0,
            "broken: one of two writes children: {name} of {manager}, {one} and {two}"
        );
        assert!(one + two > 0);
    }
}

#[tokio::test]
async fn e4_an_operator_of_the_whole_cluster_leaves_a_namespace_to_the_one_that_has_it() {
    let Some(plant) = Plant::new("e4-wide").await else {
        return;
    };
    let _narrow = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    let proxy = Proxy::new(plant.plane, &plant.user()).await;
    // The other tests' connectors are none of its business.
    let mine = plant.namespace.clone();
    proxy.filter(move |_, event| {
        event["type"] == "BOOKMARK" || event["object"]["metadata"]["namespace"] == *mine
    });
    let words = [
        "--lease-name=wide".to_owned(),
        "--lease-namespace=elsewhere".to_owned(),
    ];
    let wide = Instance::told(&words, proxy, plant.plane, &[])
        .await
        .ready()
        .await;
    told(
        &plant,
        "e4-wide/azure-iot-hub-operator",
        &command("e4-wide", "elsewhere/wide"),
    )
    .await;
    quiet(&wide.proxy, "beside the operator of a namespace").await;
    assert_eq!(
        children(&wide.proxy, ""),
        0,
        "broken: it writes no children"
    );
}
