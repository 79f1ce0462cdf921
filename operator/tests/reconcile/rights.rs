//! Rights that are taken and given back.

use std::time::Duration;

use k8s_openapi::api::{policy::v1::PodDisruptionBudget, rbac::v1::ClusterRole};
use kube::Api;
use operator::desired::ChildKind;
use serde_json::json;

use crate::{
    instance::Instance,
    plant::{Plant, condition},
    wait::{eventually, quiet},
};

/// The operator's role without the rights on one resource, under another name.
async fn role_without(plant: &Plant, resource: &str) -> String {
    let api: Api<ClusterRole> = Api::all(plant.client.clone());
    let mut role = api.get("operator-azure-iot-hub-connector").await.unwrap();
    for rule in role.rules.iter_mut().flatten() {
        if let Some(resources) = &mut rule.resources {
            resources.retain(|name| name != resource);
        }
    }
    let rules: Vec<_> = role
        .rules
        .into_iter()
        .flatten()
        .filter(|rule| {
            rule.resources
                .as_ref()
                .is_some_and(|names| !names.is_empty())
        })
        .collect();
    let name = format!("without-{resource}-in-{}", plant.namespace);
    plant
        .put(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": rules,
        }))
        .await;
    name
}

/// Ends when the right is gone: one that is taken is not taken at once.
async fn take_the_right_on_budgets(plant: &Plant) {
    let role = role_without(plant, "poddisruptionbudgets").await;
    plant.allow(&role).await;
    eventually("the right is taken", async || {
        let asked = plant.plane.client_of(&plant.user());
        let api: Api<PodDisruptionBudget> = Api::namespaced(asked, &plant.namespace);
        match api.list(&Default::default()).await {
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
            other => Err(format!("{:?}", other.map(drop))),
        }
    })
    .await;
}

#[tokio::test]
async fn r7_a_right_that_is_taken_stops_no_more_than_it_must() {
    let Some(plant) = Plant::new("r7").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    take_the_right_on_budgets(&plant).await;
    operator.proxy.cut();

    // What exists goes on, and can be changed and scaled.
    plant
        .change(json!({"replicas": 2, "thingworx": {"pipes": 2}}))
        .await;
    plant
        .bound("a connector is changed without the right on a kind that stays as it is")
        .await;

    // What needs the right says so; all that does not depend on it is there.
    plant.create("second", |_| {}).await;
    eventually("a missing right is reported", async || {
        let is = condition(&plant.status_of("second").await, "Ready");
        if is == "False ApplyForbidden" {
            Ok(())
        } else {
            Err(format!("Ready is {is:?}"))
        }
    })
    .await;
    eventually(
        "pods do not wait for the budget that could not be written",
        async || {
            let found = plant
                .children(ChildKind::Deployment)
                .get_opt("second-connector")
                .await;
            found
                .map_err(|error| error.to_string())?
                .map(drop)
                .ok_or("no Deployment".to_owned())
        },
    )
    .await;

    plant.allow("operator-azure-iot-hub-connector").await;
    crate::wait::within(
        Duration::from_secs(60),
        "a right given back is found without a restart",
        async || {
            let is = condition(&plant.status_of("second").await, "Ready");
            if is == "True AllMembersBound" {
                Ok(())
            } else {
                Err(format!("Ready is {is:?}"))
            }
        },
    )
    .await;
    quiet(&operator.proxy, "after a right was given back").await;
}

#[tokio::test]
async fn r7_a_restart_without_a_right_to_list_touches_nothing_until_it_is_back() {
    let Some(plant) = Plant::new("r7-restart").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    quiet(&operator.proxy, "in a steady state").await;
    let before = plant.written().await;
    take_the_right_on_budgets(&plant).await;
    let proxy = operator.crash().await;
    let writes = proxy.writes();
    let namespaces = std::slice::from_ref(&plant.namespace);
    let operator = Instance::behind(proxy, plant.plane, namespaces).await;
    plant
        .change(json!({"replicas": 2, "thingworx": {"pipes": 2}}))
        .await;
    let says = "not listed yet: PodDisruptionBudget";
    eventually("the kind that cannot be listed is named", async || {
        let (code, text) = operator.get("/readyz").await;
        let named = code == 503 && text.starts_with(says) && !text.contains(',');
        named.then_some(()).ok_or(text)
    })
    .await;
    quiet(&operator.proxy, "while a kind cannot be listed").await;
    assert_eq!(
        (operator.proxy.writes(), plant.written().await),
        (writes, before),
        "broken: nothing is deleted or rolled by one who does not know all"
    );
    assert_eq!(
        operator.get("/livez").await.0,
        200,
        "broken: another restart would not help"
    );
    plant.allow("operator-azure-iot-hub-connector").await;
    plant
        .bound("a right given back is found without another restart")
        .await;
    quiet(&operator.proxy, "after a right was given back").await;
}
