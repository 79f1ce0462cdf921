//! A member that has something else than its Deployment says.

use std::time::Duration;

use connector_config::{MemberReport, annotation};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod, events::v1::Event};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    plant::{NAME, Plant},
    pods,
    wait::{eventually, quiet, settled},
};

/// How long a member may disagree in these tests.
const GRACE: Duration = Duration::from_secs(4);

/// Names and uids of the pods that live.
async fn living(plant: &Plant) -> Vec<(String, String)> {
    let api: Api<Pod> = Api::namespaced(plant.client.clone(), &plant.namespace);
    let found = api.list(&ListParams::default()).await.unwrap();
    let mut living: Vec<_> = found
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| Some((pod.metadata.name?, pod.metadata.uid?)))
        .collect();
    living.sort();
    living
}

/// The member of a pod reports these digests.
async fn report(plant: &Plant, pod: &str, settings: &str, secrets: &str) {
    let report = MemberReport {
        settings_digest: settings.into(),
        secret_digest: secrets.into(),
        ..pods::running(pod)
    };
    let report = serde_json::to_string(&report).unwrap();
    let patch = json!({"metadata": {"annotations": {annotation::REPORT: report}}});
    let api: Api<Lease> = Api::namespaced(plant.client.clone(), &plant.namespace);
    api.patch(
        &format!("{pod}-1"),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn x3_a_member_with_old_secrets_is_restarted_after_its_rollout_one_at_a_time() {
    let Some(plant) = Plant::new("x3").await else {
        return;
    };
    let grace = format!("--stale-member-seconds={}", GRACE.as_secs());
    let operator = plant.told(&[&*grace]).await;
    plant.connect(3).await;
    plant.bound("a new connector becomes ready").await;
    let template = plant.template().await;
    let digest = |key: &str| {
        template["metadata"]["annotations"][key]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let settings = digest(annotation::SETTINGS_DIGEST);
    let secrets = digest(annotation::SECRET_DIGEST);
    let before = living(&plant).await;
    assert_eq!(before.len(), 3);

    // What agrees is left alone, however long.
    for (pod, _) in &before {
        report(&plant, pod, &settings, &secrets).await;
    }
    settled(&operator.proxy).await;
    sleep(GRACE + Duration::from_secs(2)).await;
    assert_eq!(
        living(&plant).await,
        before,
        "broken: members that agree are left alone"
    );

    for (pod, _) in &before[..2] {
        report(&plant, pod, &settings, "old").await;
    }
    let begun = Instant::now();
    let gone = |now: &[(String, String)]| before.iter().filter(|pod| !now.contains(pod)).count();
    eventually(
        "a member with old secrets is restarted",
        async || match gone(&living(&plant).await) {
            0 => Err("none is".to_owned()),
            _ => Ok(()),
        },
    )
    .await;
    let waited = begun.elapsed();
    assert!(
        waited > GRACE - Duration::from_secs(1),
        "broken: it is given time: {waited:?}"
    );
    plant.bound("another pod takes its place").await;
    assert_eq!(gone(&living(&plant).await), 1, "broken: one at a time");
    eventually("the second follows", async || {
        match gone(&living(&plant).await) {
            2 => Ok(()),
            n => Err(format!("{n} are gone")),
        }
    })
    .await;
    plant.bound("all is well in the end").await;
    let api: Api<Event> = Api::namespaced(plant.client.clone(), &plant.namespace);
    eventually("an event tells of it", async || {
        let events = api.list(&ListParams::default()).await.unwrap();
        let told = events.into_iter().any(|event| {
            event.reason.as_deref() == Some("MemberRestarted")
                && event
                    .regarding
                    .is_some_and(|object| object.name.as_deref() == Some(NAME))
        });
        told.then_some(()).ok_or("no event".to_owned())
    })
    .await;
    let kept = living(&plant).await;
    assert!(kept.contains(&before[2]), "broken: who agrees stays");
    quiet(&operator.proxy, "after members were restarted").await;
}
