//! Pods that replace others, and pods that cannot.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use operator::desired::ChildKind;
use serde_json::{Value, json};

use crate::{
    census::Census,
    plant::{NAME, Plant},
    pods::{Fate, NO_SUCH_IMAGE},
    wait::{eventually, quiet},
};

/// Pods of the connector, of which none may be missed.
const PODS: usize = 3;

async fn connected(id: &str) -> Option<(Plant, crate::instance::Instance, Census)> {
    let plant = Plant::new(id).await?;
    let operator = plant.operator().await;
    plant.connect(3).await;
    plant.bound("a new connector becomes ready").await;
    let census = Census::begin(&plant, PODS).await;
    Some((plant, operator, census))
}

/// Waits for the one pod that may be there beside the others.
async fn surge(census: &Census) {
    eventually("a rollout begins with a new pod", async || {
        match census.there() {
            there if there > PODS => Ok(()),
            there => Err(format!("{there} pods")),
        }
    })
    .await;
}

/// Waits until the status tells of the pods as they are: those that serve, and the one that does not.
async fn told(plant: &Plant, census: &Census) {
    eventually("a status tells of all pods", async || {
        let status = plant.status().await;
        let members: BTreeSet<_> = status.members.into_iter().filter_map(|m| m.pod).collect();
        let (serving, there) = (census.serving(), i32::try_from(census.there()).unwrap());
        match members == serving && status.replicas == Some(there) {
            true => Ok(()),
            false => Err(format!("{members:?} of {:?}", status.replicas)),
        }
    })
    .await;
}

/// Ten minutes by default, which the operator leaves to others.
async fn shorten_the_deadline(plant: &Plant) {
    let deadline = json!({"spec": {"progressDeadlineSeconds": 3}});
    let api = plant.children(ChildKind::Deployment);
    let name = format!("{NAME}-connector");
    api.patch(&name, &PatchParams::default(), &Patch::Merge(&deadline))
        .await
        .unwrap();
}

/// An edit after which no new pod runs.
async fn break_the_image(plant: &Plant, census: &Census, mut spec: Value) {
    spec["pod"] = json!({"image": NO_SUCH_IMAGE});
    plant.change(spec).await;
    surge(census).await;
    let says = "False ImagePullFailed";
    plant
        .says("an image that is not there is named", "Ready", says)
        .await;
}

#[tokio::test]
async fn z1_during_a_rollout_never_fewer_pods_serve_than_are_wanted() {
    let Some((plant, operator, census)) = connected("z1").await else {
        return;
    };
    let before = census.serving();
    plant.kubelet.makes(Fate::Pending);
    plant.change(json!({"thingworx": {"pipes": 2}})).await;
    surge(&census).await;
    told(&plant, &census).await;
    quiet(&operator.proxy, "while a new pod starts").await;
    assert_eq!(
        census.serving(),
        before,
        "broken: old pods serve until a new one does"
    );
    plant.kubelet.makes(Fate::Ready);
    plant.bound("a rollout ends").await;
    let (least, most) = census.extremes(PODS).await;
    println!("Z1: {least} pods at least, {most} asked for at most during a rollout");
    assert!(
        census.serving().is_disjoint(&before),
        "broken: all pods are replaced"
    );
    assert!(
        least >= PODS && most <= PODS + 1,
        "broken: never fewer pods serve than are wanted, and one more is asked for: {least}, {most}"
    );
}

#[tokio::test]
async fn z1_a_bad_image_keeps_the_old_pods_and_a_good_one_goes_on() {
    let Some((plant, operator, census)) = connected("z1-image").await else {
        return;
    };
    let before = census.serving();
    shorten_the_deadline(&plant).await;
    break_the_image(&plant, &census, json!({})).await;
    plant
        .says(
            "a rollout that comes no further says so",
            "Progressing",
            "False RolloutStalled",
        )
        .await;
    plant
        .says("old pods serve on", "Available", "True MemberBound")
        .await;
    told(&plant, &census).await;
    quiet(&operator.proxy, "while a rollout stands still").await;
    assert_eq!(census.serving(), before, "broken: the old pods are kept");
    plant.change(json!({"pod": {"image": "good:2"}})).await;
    plant.bound("a good image goes on").await;
    let (least, most) = census.extremes(PODS).await;
    assert!(
        least >= PODS && most <= PODS + 1,
        "broken: never fewer pods serve than are wanted: {least}, of {most} asked for"
    );
    quiet(&operator.proxy, "after a rollout that stood still").await;
}

/// The settings that a pod mounts.
async fn settings(plant: &Plant, pod: &Pod) -> Option<Value> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let name = &volumes[0].config_map.as_ref()?.name;
    let api: Api<ConfigMap> = Api::namespaced(plant.client.clone(), &plant.namespace);
    let found = api.get_opt(name).await.unwrap()?;
    Some(json!({"name": name, "data": found.data}))
}

/// Kills a pod of before the rollout; another one must serve in its place, with the same settings.
async fn kill_one(plant: &Plant, census: &Census, when: &str) {
    let pods: Api<Pod> = Api::namespaced(plant.client.clone(), &plant.namespace);
    let serving = census.serving();
    let killed = pods.get(serving.first().unwrap()).await.unwrap();
    let had = settings(plant, &killed).await;
    assert!(had.is_some(), "broken: settings in use are kept {when}");
    let name = killed.metadata.name.as_deref().unwrap();
    pods.delete(name, &DeleteParams::default()).await.unwrap();
    let promise = format!("another pod serves in place of one that was killed {when}");
    let new = eventually(&promise, async || {
        let now = census.serving();
        let new = now.difference(&serving).next().cloned();
        new.filter(|_| now.len() == PODS)
            .ok_or(format!("{now:?} serve"))
    })
    .await;
    let new = pods.get(&new).await.unwrap();
    assert_eq!(
        settings(plant, &new).await,
        had,
        "broken: it has the settings of the pod whose place it takes {when}"
    );
}

#[tokio::test]
async fn z1_a_pod_killed_while_a_rollout_stands_still_comes_back_as_it_was() {
    let Some((plant, operator, census)) = connected("z1-killed").await else {
        return;
    };
    let ca = |value: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authorities"},
            "data": {"ca.crt": value},
        })
    };
    plant.put(&ca("good")).await;
    let tls = json!({"ca": {"configMapKeyRef": {"name": "authorities", "key": "ca.crt"}}});
    plant.change(json!({"thingworx": {"tls": tls}})).await;
    plant.bound("a connector with an authority is ready").await;
    // New settings as well, so that the old ones are those of the old pods alone; in the same edit, so that
    // no pod has them with the good image.
    let settings_too = json!({"thingworx": {"pipes": 2}});
    break_the_image(&plant, &census, settings_too).await;
    kill_one(&plant, &census, "while a rollout stands still").await;

    let says = "ReferencesResolved";
    plant.put(&ca("")).await;
    plant
        .says("a broken ConfigMap is named", says, "False KeyEmpty")
        .await;
    kill_one(&plant, &census, "while a ConfigMap is broken").await;
    plant.put(&ca("good")).await;
    plant
        .says("a mended ConfigMap is found", says, "True Resolved")
        .await;

    // Not by an apply: what a Secret was given as text belongs to nobody.
    let removed = Patch::Merge(json!({"data": {"appKey": null}}));
    let secrets = plant.secrets();
    secrets
        .patch("factory-thingworx", &PatchParams::default(), &removed)
        .await
        .unwrap();
    plant
        .says("a key that was removed is named", says, "False KeyNotFound")
        .await;
    kill_one(&plant, &census, "while a Secret is broken").await;
    told(&plant, &census).await;
    quiet(&operator.proxy, "while a rollout stands still").await;

    plant.secret("factory-thingworx", &[("appKey", "k1")]).await;
    plant.change(json!({"pod": {"image": null}})).await;
    plant.bound("what was mended goes on").await;
    quiet(&operator.proxy, "after all was mended").await;
    let settings = plant.snapshot().await.count("ConfigMap");
    assert_eq!(settings, 1, "broken: settings that no pod uses go");
}
