//! Objects of somebody else that have the names of children.

use futures::future::join_all;
use kube::api::{DeleteParams, PostParams};
use operator::desired::ChildKind;
use serde_json::{Value, json};

use crate::{
    plant::{Plant, condition},
    wait::eventually,
};

/// An object of this kind as somebody else would have made it.
fn foreign(kind: ChildKind, name: &str) -> Value {
    let labels = json!({ "app": "theirs" });
    let template = json!({
        "metadata": { "labels": labels },
        "spec": { "containers": [{ "name": "theirs", "image": "theirs:1" }] },
    });
    let rest = match kind {
        ChildKind::ServiceAccount => json!({}),
        ChildKind::Role => json!({ "rules": [] }),
        ChildKind::RoleBinding => json!({
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "theirs" },
        }),
        ChildKind::ConfigMap => json!({ "data": { "their": "s" } }),
        ChildKind::PodDisruptionBudget => {
            json!({ "spec": { "minAvailable": 1, "selector": { "matchLabels": labels } } })
        }
        ChildKind::Deployment => json!({ "spec": {
            "replicas": 0, "selector": { "matchLabels": labels }, "template": template,
        }}),
    };
    let resource = kind.resource();
    let mut object = json!({
        "apiVersion": resource.api_version, "kind": resource.kind, "metadata": { "name": name },
    });
    for (key, value) in rest.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

async fn hijack(plant: &Plant, kind: ChildKind) {
    let name = kind.as_str().to_lowercase();
    let theirs = foreign(kind, &format!("{name}-connector"));
    let api = plant.children(kind);
    let object = serde_json::from_value(theirs).unwrap();
    let made = api.create(&PostParams::default(), &object).await.unwrap();
    plant.create(&name, |_| {}).await;
    let ready = async |promise: &str, says: &str| {
        eventually(promise, async || {
            let is = condition(&plant.status_of(&name).await, "Ready");
            if is == says {
                Ok(())
            } else {
                Err(format!("Ready is {is:?}"))
            }
        })
        .await;
    };
    let promise = format!("a {} of somebody else is reported", kind.as_str());
    ready(&promise, "False NameConflict").await;
    let found = api.get(&format!("{name}-connector")).await.unwrap();
    assert_eq!(
        found
            .metadata
            .managed_fields
            .iter()
            .flatten()
            .find(|by| by.manager.as_deref() == Some("azure-iot-hub-operator")),
        None,
        "broken: a {} of somebody else is not written",
        kind.as_str()
    );
    assert_eq!(found.metadata.uid, made.metadata.uid);
    let deployments = plant.children(ChildKind::Deployment);
    if kind != ChildKind::Deployment {
        let pods = deployments
            .get_opt(&format!("{name}-connector"))
            .await
            .unwrap();
        assert!(
            pods.is_none(),
            "broken: no pods run with somebody else's {}",
            kind.as_str()
        );
    }
    api.delete(&format!("{name}-connector"), &DeleteParams::background())
        .await
        .unwrap();
    let promise = format!(
        "a connector goes on when somebody else's {} is gone",
        kind.as_str()
    );
    ready(&promise, "True AllMembersBound").await;
}

#[tokio::test]
async fn d3_an_object_of_somebody_else_is_neither_adopted_nor_overwritten() {
    let Some(plant) = Plant::new("d3").await else {
        return;
    };
    let _operator = plant.operator().await;
    // Not the settings: their name follows from the uid, so nobody else can have it before.
    let kinds = ChildKind::ALL
        .into_iter()
        .filter(|kind| *kind != ChildKind::ConfigMap);
    join_all(kinds.map(|kind| hijack(&plant, kind))).await;
}
