//! Pods are replaced because somebody says so.

use std::collections::BTreeSet;

use connector_config::annotation;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use crate::{
    plant::Plant,
    wait::{eventually, quiet, settled},
};

async fn say(plant: &Plant, text: &Value) {
    let annotations = json!({"metadata": {"annotations": {annotation::RESTART: text}}});
    plant.merge(&annotations).await.unwrap();
}

/// Uids of the pods that live.
async fn pods(plant: &Plant) -> BTreeSet<String> {
    let api: Api<Pod> = Api::namespaced(plant.client.clone(), &plant.namespace);
    let found = api.list(&ListParams::default()).await.unwrap();
    let living = found
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    living.filter_map(|pod| pod.metadata.uid).collect()
}

async fn replaced(plant: &Plant, promise: &str, before: &BTreeSet<String>) -> BTreeSet<String> {
    eventually(promise, async || {
        let now = pods(plant).await;
        let new = now.len() == before.len() && now.is_disjoint(before);
        new.then_some(now).ok_or("pods are still there".to_owned())
    })
    .await
}

#[tokio::test]
async fn p2_each_new_word_replaces_the_pods_once_and_none_replaces_nothing() {
    let Some(plant) = Plant::new("p2").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(2).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    let first = pods(&plant).await;
    assert_eq!(first.len(), 2);

    say(&plant, &json!("ticket 7")).await;
    let second = replaced(&plant, "a restart replaces all pods", &first).await;
    plant.bound("a restarted connector is ready").await;
    quiet(&operator.proxy, "after a restart that was asked for").await;
    assert_eq!(
        pods(&plant).await,
        second,
        "broken: a word replaces the pods once"
    );

    let template = plant.template().await;
    say(&plant, &json!(null)).await;
    plant.change(json!({"replicas": 3})).await;
    plant
        .bound("the connector works on without the annotation")
        .await;
    let operator = operator.restart(plant.plane).await.ready().await;
    quiet(&operator.proxy, "after the annotation was taken away").await;
    assert_eq!(
        plant.template().await,
        template,
        "broken: no word replaces nothing"
    );
    let third = pods(&plant).await;
    assert!(
        third.is_superset(&second),
        "broken: no word replaces nothing"
    );

    say(&plant, &json!("a long story ".repeat(100))).await;
    replaced(&plant, "a long word is as good as a short one", &third).await;
    plant.bound("a restarted connector is ready").await;
    quiet(&operator.proxy, "after another restart").await;
    let template = plant.template().await;
    let word = template["metadata"]["annotations"][annotation::RESTART].as_str();
    assert_eq!(
        word.map(str::len),
        Some(63),
        "broken: a template takes a bounded word"
    );
}
