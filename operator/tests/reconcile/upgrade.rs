//! From a released version to this one, and back.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::{
    Api,
    api::{DynamicObject, ListParams, Patch, PatchParams},
};
use operator::{apply::FIELD_MANAGER, desired::ChildKind};
use serde_json::{Value, json};

use crate::{
    census::Census,
    plant::{NAME, Plant},
    released::{Release, owned_by_operator, releases},
    wait::{eventually, quiet},
};

/// What the released resource refers to.
async fn references(plant: &Plant) {
    let hub = [("service", "s1"), ("events", "e1")];
    plant.secret("iothub", &hub).await;
    plant.secret("thingworx", &[("appKey", "k1")]).await;
    plant
        .put(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authorities"},
            "data": {"ca.crt": "c1"},
        }))
        .await;
}

/// Applies an object with the operator's name.
async fn apply(plant: &Plant, object: &Value) -> DynamicObject {
    let name = object["metadata"]["name"].as_str().unwrap();
    let mut kinds = ChildKind::ALL.into_iter();
    let kind = kinds.find(|kind| object["kind"] == kind.as_str()).unwrap();
    let params = PatchParams::apply(FIELD_MANAGER).force();
    plant
        .children(kind)
        .patch(name, &params, &Patch::Apply(object))
        .await
        .unwrap()
}

/// Writes the children as the release did for this resource.
async fn apply_released(plant: &Plant, release: &Release, uid: &str) {
    for child in release.children(&plant.namespace, NAME, uid) {
        let live = apply(plant, &child.object).await;
        let owned = owned_by_operator(&live);
        assert_eq!(
            (owned.len(), &owned[0]["fields"]),
            (1, &child.owned),
            "{} of {} is owned as it was",
            child.object["kind"],
            release.version
        );
    }
}

/// A namespace as the release has left it, while its operator is away.
async fn released(plant: &Plant, release: &Release) {
    references(plant).await;
    let (spec, status) = release.resource(&plant.namespace);
    let made = plant.create(NAME, |own| *own = spec).await;
    let uid = made.metadata.uid.unwrap();
    apply_released(plant, release, &uid).await;
    let status = json!({
        "apiVersion": "iot-connectors.dev/v1alpha1", "kind": "AzureIotHubConnector",
        "metadata": {"name": NAME}, "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    plant
        .untyped()
        .patch_status(NAME, &params, &Patch::Apply(&status))
        .await
        .unwrap();
}

/// What the operator owns of each child. Settings are named by what is in them.
async fn owned(plant: &Plant) -> BTreeMap<ChildKind, Vec<String>> {
    let uid = plant.connector().await.metadata.uid.unwrap();
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (kind, child) in plant.objects(NAME).await {
        let owned = owned_by_operator(&child);
        let texts = owned
            .iter()
            .map(|owned| owned.to_string().replace(&uid, "<uid>"));
        all.entry(kind).or_default().extend(texts);
    }
    all
}

async fn rollouts(plant: &Plant) -> usize {
    let sets: Api<ReplicaSet> = Api::namespaced(plant.client.clone(), &plant.namespace);
    sets.list(&ListParams::default()).await.unwrap().items.len()
}

#[tokio::test]
async fn u1_children_of_each_release_become_this_versions_with_one_rollout_at_most() {
    for release in releases() {
        let version = release.version.replace('.', "-");
        let Some(plant) = Plant::new(&format!("u1-from-{version}")).await else {
            return;
        };
        released(&plant, &release).await;
        let census = Census::begin(&plant, 2).await;
        let before = rollouts(&plant).await;
        let operator = plant.operator().await;
        plant
            .bound("a connector of a released version becomes ready")
            .await;

        // One that was never anything else.
        let fresh = Plant::new(&format!("u1-beside-{version}")).await.unwrap();
        references(&fresh).await;
        let _beside = fresh.operator().await;
        let (spec, _) = release.resource(&fresh.namespace);
        fresh.create(NAME, |own| *own = spec).await;
        fresh.bound("a new connector becomes ready").await;
        let expected = fresh.snapshot().await;
        plant
            .becomes("what was upgraded is as if it were new", &expected)
            .await;
        assert_eq!(
            owned(&plant).await,
            owned(&fresh).await,
            "broken: no field of {} is left over",
            release.version
        );
        let rolled = rollouts(&plant).await - before;
        let (least, most) = census.extremes(2).await;
        println!(
            "U1: {} → this: {rolled} rollouts, {least} pods at least, {most} asked for at most",
            release.version
        );
        assert!(rolled <= 1, "broken: one rollout at most: {rolled}");
        assert!(
            least >= 2 && most <= 3,
            "broken: never fewer pods serve than are wanted: {least}, of {most} asked for"
        );
        quiet(&operator.proxy, "after an upgrade").await;
    }
}

/// The way back: what an older version applies replaces all that this one has written and it does not know.
#[tokio::test]
async fn u2_children_of_this_version_become_a_releases_with_nothing_left_over() {
    for release in releases() {
        let version = release.version.replace('.', "-");
        let Some(plant) = Plant::new(&format!("u2-to-{version}")).await else {
            return;
        };
        references(&plant).await;
        let operator = plant.operator().await;
        let (spec, _) = release.resource(&plant.namespace);
        let made = plant.create(NAME, |own| *own = spec).await;
        plant.bound("a new connector becomes ready").await;
        let census = Census::begin(&plant, 2).await;
        let before = rollouts(&plant).await;
        operator.stop().await;
        let uid = made.metadata.uid.unwrap();
        apply_released(&plant, &release, &uid).await;
        eventually("an older version's pods roll out", async || {
            plant.rolled_out().await
        })
        .await;
        let rolled = rollouts(&plant).await - before;
        let (least, _) = census.extremes(2).await;
        assert!(
            rolled <= 1 && least >= 2,
            "broken: a way back is one rollout: {rolled}, {least} pods at least"
        );
    }
}
