//! How many connectors replace their pods at a time.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    plant::{Plant, condition},
    pods::Fate,
    wait::{eventually, quiet_for, rarely},
};

/// Connectors of a test.
const MANY: usize = 9;
/// How many may replace their pods.
const LIMIT: usize = 3;
/// How long a bound is looked at.
const LOOK: Duration = Duration::from_secs(2);

fn name(n: usize) -> String {
    format!("many-{n}")
}

async fn deployments(plant: &Plant) -> Vec<Deployment> {
    let api: Api<Deployment> = Api::namespaced(plant.client.clone(), &plant.namespace);
    api.list(&ListParams::default()).await.unwrap().items
}

/// Deployments whose pods have this image.
async fn of_image(plant: &Plant, image: &str) -> Vec<String> {
    let found = deployments(plant).await;
    let of_image = found.into_iter().filter(|found| {
        let pod = found
            .spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref());
        pod.is_some_and(|pod| pod.containers[0].image.as_deref() == Some(image))
    });
    of_image.filter_map(|found| found.metadata.name).collect()
}

/// How many Deployments have pods of an older template.
async fn replacing(plant: &Plant) -> usize {
    let found = deployments(plant).await;
    let replacing = found.iter().filter(|found| {
        let status = found.status.clone().unwrap_or_default();
        status.observed_generation < found.metadata.generation
            || status.updated_replicas.unwrap_or(0) < status.replicas.unwrap_or(0)
    });
    replacing.count()
}

async fn says(plant: &Plant, promise: &str, name: &str, kind: &str, says: &str) {
    eventually(promise, async || {
        let is = condition(&plant.status_of(name).await, kind);
        (is == says).then_some(()).ok_or(is)
    })
    .await;
}

/// Waits until so many have the image, and makes sure that no more follow.
async fn stays_at(plant: &Plant, promise: &str, image: &str, expected: usize) {
    eventually(promise, async || match of_image(plant, image).await.len() {
        n if n >= expected => Ok(()),
        n => Err(format!("{n} have the new image")),
    })
    .await;
    let begun = Instant::now();
    while begun.elapsed() < LOOK {
        let now = of_image(plant, image).await.len();
        assert_eq!(now, expected, "broken: {promise}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn z4_an_upgrade_replaces_the_pods_of_a_few_connectors_at_a_time() {
    let Some(plant) = Plant::new("z4").await else {
        return;
    };
    let operator = plant.operator().await;
    for n in 0..MANY {
        plant
            .create(&name(n), |spec| spec["replicas"] = json!(1))
            .await;
    }
    for n in 0..MANY {
        says(
            &plant,
            "a new connector does not wait for others",
            &name(n),
            "Ready",
            "True AllMembersBound",
        )
        .await;
    }
    operator.stop().await;

    // Another version of the operator brings another image, whose pods do not run yet.
    let limit = format!("--max-concurrent-rollouts={LIMIT}");
    let words = [&*limit, "--connector-image=held:2"];
    let operator = plant.told(&words).await;
    let promise = "no more connectors than allowed replace their pods";
    stays_at(&plant, promise, "held:2", LIMIT).await;
    let begun = of_image(&plant, "held:2").await;
    let waiting = (0..MANY)
        .map(name)
        .find(|name| !begun.contains(&format!("{name}-connector")));
    let waiting = waiting.unwrap();
    says(
        &plant,
        "who waits says so",
        &waiting,
        "Progressing",
        "True RolloutQueued",
    )
    .await;
    says(
        &plant,
        "who waits is not ready",
        &waiting,
        "Ready",
        "False RolloutQueued",
    )
    .await;
    says(
        &plant,
        "who waits goes on",
        &waiting,
        "Available",
        "True MemberBound",
    )
    .await;

    // Scaling waits for nobody.
    let scaled = Patch::Merge(json!({"spec": {"replicas": 2}}));
    plant
        .untyped()
        .patch(&waiting, &PatchParams::default(), &scaled)
        .await
        .unwrap();
    eventually("who waits can be scaled", async || {
        let found = plant.status_of(&waiting).await.bound_members;
        (found == Some(2))
            .then_some(())
            .ok_or(format!("{found:?} members"))
    })
    .await;
    // Members report before the controllers have counted their pods.
    eventually("each status tells of all pods", async || {
        for name in (0..MANY).map(name) {
            let (told, there) = (
                plant.status_of(&name).await.replicas,
                plant.pods(&name).await.len(),
            );
            if told != i32::try_from(there).ok() {
                return Err(format!("{name} says {told:?} and has {there} pods"));
            }
        }
        Ok(())
    })
    .await;
    quiet_for(LOOK, &operator.proxy, "while connectors wait").await;

    // What has been begun counts for the next one, too.
    let operator = operator.restart(plant.plane).await.ready().await;
    stays_at(&plant, "a restart begins no more", "held:2", LIMIT).await;

    plant.kubelet.makes(Fate::Released);
    let mut most = 0;
    rarely("all connectors have their turn", async || {
        most = most.max(replacing(&plant).await);
        match of_image(&plant, "held:2").await.len() {
            MANY => Ok(()),
            n => Err(format!("{n} have the new image")),
        }
    })
    .await;
    assert!(most <= LIMIT, "broken: {promise}: {most} at once");
    for n in 0..MANY {
        says(
            &plant,
            "all are ready in the end",
            &name(n),
            "Ready",
            "True AllMembersBound",
        )
        .await;
    }
    quiet_for(LOOK, &operator.proxy, "after an upgrade").await;
}

#[tokio::test]
async fn z4_a_rollout_that_is_stuck_holds_up_nobody_for_ever() {
    let Some(plant) = Plant::new("z4-stuck").await else {
        return;
    };
    let _operator = plant.told(&["--max-concurrent-rollouts=1"]).await;
    let ready = "a new connector becomes ready";
    for name in ["first", "second"] {
        plant.create(name, |spec| spec["replicas"] = json!(1)).await;
        says(&plant, ready, name, "Ready", "True AllMembersBound").await;
    }
    let edit = async |name: &str, image: &str| {
        let image = Patch::Merge(json!({"spec": {"pod": {"image": image}}}));
        plant
            .untyped()
            .patch(name, &PatchParams::default(), &image)
            .await
            .unwrap();
    };
    edit("first", "held:2").await;
    stays_at(&plant, "one edit goes at once", "held:2", 1).await;
    edit("second", "good:2").await;
    says(
        &plant,
        "another waits",
        "second",
        "Progressing",
        "True RolloutQueued",
    )
    .await;
    assert!(
        of_image(&plant, "good:2").await.is_empty(),
        "broken: another waits"
    );

    // What the deployment controller says after ten minutes without progress. It must have seen all there is to
    // see, or it takes that for progress.
    let api: Api<Deployment> = Api::namespaced(plant.client.clone(), &plant.namespace);
    eventually("a pod of the new image is there", async || {
        let status = api
            .get("first-connector")
            .await
            .unwrap()
            .status
            .unwrap_or_default();
        let seen = status.updated_replicas == Some(1) && status.unavailable_replicas == Some(1);
        seen.then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
    let stuck = json!({"status": {"conditions": [{
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        "message": "stuck", "lastUpdateTime": null, "lastTransitionTime": null,
    }]}});
    api.patch_status(
        "first-connector",
        &PatchParams::default(),
        &Patch::Strategic(stuck),
    )
    .await
    .unwrap();
    says(
        &plant,
        "a rollout that is stuck gives its slot back",
        "second",
        "Ready",
        "True AllMembersBound",
    )
    .await;
    says(
        &plant,
        "a rollout that is stuck says so",
        "first",
        "Progressing",
        "False RolloutStalled",
    )
    .await;
}
