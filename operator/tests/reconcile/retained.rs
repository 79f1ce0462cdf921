//! Leases of connectors that are gone.

use std::time::Duration;

use connector_config::label;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    instance::Instance,
    plant::{NAME, Plant},
    proxy::{Fault, Proxy},
    wait::eventually,
};

/// How long a Lease is kept in these tests.
const KEPT: Duration = Duration::from_secs(6);

fn leases(plant: &Plant) -> Api<Lease> {
    Api::namespaced(plant.client.clone(), &plant.namespace)
}

async fn lease(plant: &Plant, name: &str, component: &str, connector: &str) {
    plant
        .put(&json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "labels": {
                label::NAME: label::NAME_VALUE, label::COMPONENT: component, label::INSTANCE: connector,
            }},
            // What the pod says of the time is not believed.
            "spec": {"renewTime": "2020-01-01T00:00:00.000000Z"},
        }))
        .await;
}

async fn exists(plant: &Plant, name: &str) -> bool {
    leases(plant).get_opt(name).await.unwrap().is_some()
}

async fn goes(plant: &Plant, promise: &str, name: &str) {
    eventually(promise, async || match exists(plant, name).await {
        true => Err(format!("{name} is there")),
        false => Ok(()),
    })
    .await;
}

fn words() -> Vec<String> {
    vec![format!("--retain-seconds={}", KEPT.as_secs())]
}

#[tokio::test]
async fn l5_leases_of_a_connector_that_is_gone_go_long_after_their_last_write() {
    let Some(plant) = Plant::new("l5").await else {
        return;
    };
    let operator = plant.told(&[&*words()[0]]).await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    let begun = Instant::now();
    lease(&plant, "claim-gone", label::COMPONENT_CLAIM, "gone").await;
    lease(&plant, "member-gone", label::COMPONENT_MEMBER, "gone").await;
    lease(&plant, "claim-written", label::COMPONENT_CLAIM, "gone").await;
    lease(&plant, "claim-living", label::COMPONENT_CLAIM, NAME).await;
    lease(&plant, "other", "something-else", "gone").await;
    let writing = async {
        for moves in 0.. {
            let patch = json!({"spec": {"leaseTransitions": moves}});
            let written = leases(&plant)
                .patch(
                    "claim-written",
                    &PatchParams::default(),
                    &Patch::Merge(&patch),
                )
                .await;
            written.expect("broken: what is written is kept");
            sleep(Duration::from_millis(500)).await;
        }
    };
    let looking = async {
        goes(
            &plant,
            "a claim of a connector that is gone goes",
            "claim-gone",
        )
        .await;
        let after = begun.elapsed();
        // The server's book is kept in whole seconds.
        assert!(
            after > KEPT - Duration::from_secs(1),
            "broken: it is kept for a while: {after:?}"
        );
        goes(
            &plant,
            "a member of a connector that is gone goes",
            "member-gone",
        )
        .await;
        sleep(KEPT).await;
        for name in ["claim-written", "claim-living", "other"] {
            assert!(exists(&plant, name).await, "broken: {name} is kept");
        }
    };
    tokio::select! {
        () = writing => {}
        () = looking => {}
    }
    goes(&plant, "what is no longer written goes", "claim-written").await;
    drop(operator);
}

#[tokio::test]
async fn l5_nothing_goes_while_it_is_not_known_which_connectors_there_are() {
    let Some(plant) = Plant::new("l5-blind").await else {
        return;
    };
    plant.connect(1).await;
    lease(&plant, "claim-living", label::COMPONENT_CLAIM, NAME).await;
    lease(&plant, "claim-gone", label::COMPONENT_CLAIM, "gone").await;
    sleep(KEPT).await;
    // Lists do not show a connector that is there.
    let proxy = Proxy::new(plant.plane, &plant.user()).await;
    proxy.filter(|call, event| {
        call.resource != "azureiothubconnectors" || event["type"] == "BOOKMARK"
    });
    let namespaces = std::slice::from_ref(&plant.namespace);
    let operator = Instance::told(&words(), proxy, plant.plane, namespaces).await;
    let operator = operator.ready().await;
    goes(&plant, "a connector that is gone is gone", "claim-gone").await;
    sleep(Duration::from_secs(3)).await;
    assert!(
        exists(&plant, "claim-living").await,
        "broken: the server has the last word"
    );

    // And a list that cannot be had shows nothing at all.
    operator.proxy.rule(|call| {
        let lists = call.resource == "azureiothubconnectors" && call.name.is_empty();
        lists.then_some(Fault::Answer(503, "ServiceUnavailable", None))
    });
    operator.proxy.cut();
    sleep(Duration::from_secs(2)).await;
    lease(&plant, "claim-gone", label::COMPONENT_CLAIM, "gone").await;
    sleep(KEPT + Duration::from_secs(4)).await;
    assert!(
        exists(&plant, "claim-gone").await,
        "broken: nothing goes while the operator is blind"
    );
    operator.proxy.heal();
    goes(&plant, "it goes when the operator sees again", "claim-gone").await;
    assert!(
        exists(&plant, "claim-living").await,
        "broken: what exists is kept"
    );
}
