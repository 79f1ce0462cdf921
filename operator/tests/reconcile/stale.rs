//! What the operator knows is old, or it missed something.

use std::time::Duration;

use kube::api::DeleteParams;
use operator::desired::ChildKind;
use serde_json::json;

use crate::{
    instance::Instance,
    plant::{NAME, Plant, condition},
    proxy::Fault,
    wait::{eventually, quiet, settled},
};

#[tokio::test]
async fn r3_events_that_are_lost_are_made_up_for_by_the_next_list() {
    let Some(plant) = Plant::new("r3-lost").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    let before = plant.snapshot().await;
    operator
        .proxy
        .filter(|_, event| event["type"] == "LISTED" || event["type"] == "BOOKMARK");
    for (kind, child) in plant.objects(NAME).await {
        let name = child.metadata.name.unwrap();
        plant
            .children(kind)
            .delete(&name, &DeleteParams::background())
            .await
            .unwrap();
    }
    plant.change(json!({"thingworx": {"pipes": 2}})).await;
    plant.change(json!({"thingworx": {"pipes": 1}})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    operator.proxy.heal();
    // A watch that breaks is one that lists again.
    operator.proxy.cut();
    plant
        .becomes("a list makes up for lost events", &before)
        .await;
    quiet(&operator.proxy, "after lost events").await;
}

#[tokio::test]
async fn r3_a_restart_on_old_lists_writes_nothing_old() {
    let Some(plant) = Plant::new("r3-old").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    operator.proxy.keep_lists();
    let operator = operator.restart(plant.plane).await.ready().await;
    plant
        .change(json!({"replicas": 2, "thingworx": {"pipes": 2}}))
        .await;
    plant.bound("a changed connector becomes ready").await;
    settled(&operator.proxy).await;
    let after = plant.snapshot().await;
    let versions = plant.written().await;
    // Lists are old; watches go on from there and bring what has happened since, after a while.
    let proxy = operator.crash().await;
    proxy.rule(|call| match call.verb {
        "list" => Some(Fault::Stale),
        "watch" => Some(Fault::Delay(Duration::from_secs(3))),
        _ => None,
    });
    let operator = Instance::behind(proxy, plant.plane, std::slice::from_ref(&plant.namespace))
        .await
        .ready()
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        plant.written().await,
        versions,
        "broken: what is old is not written"
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    operator.proxy.heal();
    plant.becomes("old lists do no harm", &after).await;
    quiet(&operator.proxy, "after a restart on old lists").await;
    assert_eq!(
        plant.written().await,
        versions,
        "broken: what is old is not written"
    );
}

#[tokio::test]
async fn r5_a_watch_that_is_gone_lists_again() {
    let Some(plant) = Plant::new("r5").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    let lists = operator.proxy.count(|call| call.verb == "list");
    operator
        .proxy
        .rule(|call| (call.verb == "watch").then_some(Fault::Answer(410, "Expired", None)));
    operator.proxy.cut();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let again = operator.proxy.count(|call| call.verb == "list") - lists;
    println!("R5: {again} lists in 4 s in which no watch is accepted");
    assert!(
        (12..12 * 8).contains(&again),
        "broken: lists are repeated, at a bounded rate: {again}"
    );
    let name = format!("{NAME}-connector");
    let deleted = plant
        .children(ChildKind::Role)
        .delete(&name, &DeleteParams::background())
        .await;
    deleted.unwrap();
    eventually("lists alone show what has changed", async || {
        let found = plant.children(ChildKind::Role).get_opt(&name).await;
        found
            .map_err(|error| error.to_string())?
            .map(drop)
            .ok_or("not made again".to_owned())
    })
    .await;
    operator.proxy.heal();
    plant.bound("watches come back").await;
    quiet(&operator.proxy, "after expired watches").await;
}

#[tokio::test]
async fn r8_one_resource_that_cannot_be_read_stops_no_other() {
    let Some(plant) = Plant::new("r8").await else {
        return;
    };
    let operator = plant.starting().await;
    // As if a later version had stored it.
    operator.proxy.filter(|call, event| {
        if call.resource == "azureiothubconnectors"
            && event["object"]["metadata"]["name"] == "broken"
        {
            event["object"]["spec"]["replicas"] = json!("many");
        }
        true
    });
    let operator = operator.ready().await;
    plant.create("broken", |_| {}).await;
    plant.connect(1).await;
    plant
        .bound("others work beside a resource that cannot be read")
        .await;
    eventually("a resource that cannot be read says so", async || {
        let status = plant.status_of("broken").await;
        let is = condition(&status, "ConfigValid");
        if is == "False Undecodable" {
            Ok(())
        } else {
            Err(is)
        }
    })
    .await;
    let deployments = plant.children(ChildKind::Deployment);
    assert!(
        deployments
            .get_opt("broken-connector")
            .await
            .unwrap()
            .is_none()
    );
    settled(&operator.proxy).await;
    eventually("a resource that cannot be read is counted", async || {
        let not_ready = operator.metric("connectors", "ready=\"False\"").await;
        let unknown = operator.metric("connectors", "ready=\"Unknown\"").await;
        let counted = format!("{not_ready} and {unknown}");
        (not_ready + unknown == 1.0).then_some(()).ok_or(counted)
    })
    .await;
    let operator = operator.restart(plant.plane).await.ready().await;
    quiet(&operator.proxy, "beside a resource that cannot be read").await;
    plant.change(json!({"replicas": 2})).await;
    plant.bound("others work on after a restart").await;
}
