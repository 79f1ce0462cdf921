//! Resources that go, and come again.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, PropagationPolicy},
};
use operator::desired::ChildKind;

use crate::{
    call::Call,
    plant::{NAME, Plant},
    wait::{eventually, quiet, settled},
};

async fn gone(plant: &Plant, promise: &str) {
    eventually(promise, async || {
        let found = plant
            .untyped()
            .get_opt(NAME)
            .await
            .map_err(|error| error.to_string())?;
        let left = plant.objects(NAME).await.len();
        match (found, left) {
            (None, 0) => Ok(()),
            (found, left) => Err(format!("there: {}, {left} children", found.is_some())),
        }
    })
    .await;
}

#[tokio::test]
async fn l1_a_connector_made_anew_at_once_has_children_of_its_own() {
    let Some(plant) = Plant::new("l1").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    let before = plant.snapshot().await;
    plant
        .connectors()
        .delete(NAME, &DeleteParams::background())
        .await
        .unwrap();
    let made = plant.connect(1).await;
    plant
        .bound("a connector that was made anew becomes ready")
        .await;
    plant.becomes("it is like the one before", &before).await;
    for (kind, child) in plant.objects(NAME).await {
        let owners = child.metadata.owner_references.unwrap_or_default();
        let ours = owners
            .iter()
            .all(|owner| Some(&owner.uid) == made.metadata.uid.as_ref());
        assert!(
            ours,
            "broken: nothing is left of the old owner: {}",
            kind.as_str()
        );
    }
    quiet(&operator.proxy, "after a connector was made anew").await;
}

#[tokio::test]
async fn l2_a_connector_is_deleted_without_the_operator() {
    let Some(plant) = Plant::new("l2").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    operator.stop().await;
    plant
        .connectors()
        .delete(NAME, &DeleteParams::background())
        .await
        .unwrap();
    gone(
        &plant,
        "a deleted connector goes, and its children, while no operator runs",
    )
    .await;
}

#[tokio::test]
async fn l3_a_namespace_goes_without_a_storm() {
    let Some(plant) = Plant::new("l3").await else {
        return;
    };
    let operator = plant.operator().await;
    for n in 0..5 {
        plant.create(&format!("{NAME}-{n}"), |_| {}).await;
    }
    let begun = operator.proxy.writes();
    let namespaces: Api<Namespace> = Api::all(plant.client.clone());
    namespaces
        .delete(&plant.namespace, &DeleteParams::default())
        .await
        .unwrap();
    eventually(
        "a namespace goes while its connectors are being made",
        async || match namespaces.get_opt(&plant.namespace).await {
            Ok(None) => Ok(()),
            Ok(Some(found)) => Err(format!("{:?}", found.status.and_then(|s| s.conditions))),
            Err(error) => Err(error.to_string()),
        },
    )
    .await;
    settled(&operator.proxy).await;
    let writes = operator.proxy.writes() - begun;
    println!("L3: {writes} writes until the namespace was gone");
    // Five connectors with six children, four states and their events; once more for what was deleted.
    assert!(
        writes < 2 * 5 * (6 + 4 + 4),
        "broken: no storm when a namespace goes: {writes} writes"
    );
    quiet(&operator.proxy, "after a namespace is gone").await;
    assert_eq!(operator.get("/livez").await.0, 200);
}

async fn delete(plant: &Plant, policy: PropagationPolicy) {
    let params = DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    };
    plant.connectors().delete(NAME, &params).await.unwrap();
}

#[tokio::test]
async fn l4_deletion_in_the_foreground_waits_for_the_children() {
    let Some(plant) = Plant::new("l4-foreground").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    let writes = operator.proxy.count(Call::writes_child);
    delete(&plant, PropagationPolicy::Foreground).await;
    gone(&plant, "deletion in the foreground ends").await;
    let after = operator.proxy.count(Call::writes_child);
    assert_eq!(
        after, writes,
        "broken: children of what is being deleted are not made again"
    );
}

#[tokio::test]
async fn l4_orphans_are_left_alone_and_not_adopted() {
    let Some(plant) = Plant::new("l4-orphan").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    let uid = plant.connector().await.metadata.uid;
    delete(&plant, PropagationPolicy::Orphan).await;
    eventually(
        "a connector is deleted and its children stay",
        async || match plant.untyped().get_opt(NAME).await {
            Ok(None) => Ok(()),
            Ok(Some(found)) => Err(format!("there, {:?}", found.metadata.finalizers)),
            Err(error) => Err(error.to_string()),
        },
    )
    .await;
    let orphans = plant.written().await;
    quiet(&operator.proxy, "to orphans").await;
    assert_eq!(
        plant.written().await,
        orphans,
        "broken: orphans stay as they are"
    );
    let made = plant.connect(1).await;
    assert_ne!(made.metadata.uid, uid);
    plant
        .says("orphans are not adopted", "Ready", "False NameConflict")
        .await;
    assert_eq!(
        plant.written().await,
        orphans,
        "broken: orphans are not written"
    );
    for kind in ChildKind::ALL {
        for object in plant
            .children(kind)
            .list(&Default::default())
            .await
            .unwrap()
        {
            let name = object.metadata.name.unwrap();
            if name.starts_with(NAME) {
                plant
                    .children(kind)
                    .delete(&name, &DeleteParams::background())
                    .await
                    .unwrap();
            }
        }
    }
    plant
        .bound("when the orphans are gone the connector goes on")
        .await;
}
