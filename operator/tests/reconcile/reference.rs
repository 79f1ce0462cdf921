//! Secrets that come, change and go.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use connector_config::annotation;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use operator::desired::ChildKind;
use serde_json::{from_value, json};

use crate::{
    plant::{NAME, Plant, condition},
    wait::{PATIENCE, eventually, quiet, settled, within},
};

/// From a changed secret to a changed template.
const ROTATION: Duration = Duration::from_secs(5);

async fn digest(plant: &Plant) -> String {
    let template = plant.template().await;
    template["metadata"]["annotations"][annotation::SECRET_DIGEST].to_string()
}

async fn rollouts(plant: &Plant) -> i64 {
    let sets: Api<ReplicaSet> = Api::namespaced(plant.client.clone(), &plant.namespace);
    let revision = |set: &ReplicaSet| -> Option<i64> {
        let annotations = set.metadata.annotations.as_ref()?;
        annotations
            .get("deployment.kubernetes.io/revision")?
            .parse()
            .ok()
    };
    let found = sets.list(&ListParams::default()).await.unwrap();
    found.iter().filter_map(revision).max().unwrap_or_default()
}

#[tokio::test]
async fn x1_a_secret_that_is_missing_appears_changes_and_goes() {
    let Some(plant) = Plant::new("x1").await else {
        return;
    };
    let secrets = plant.secrets();
    secrets
        .delete("factory-hub", &DeleteParams::default())
        .await
        .unwrap();
    let operator = plant.operator().await;
    plant.connect(1).await;
    let says = "ReferencesResolved";
    plant
        .says("a missing secret is named", says, "False SecretNotFound")
        .await;
    let deployments = plant.children(ChildKind::Deployment);
    let name = format!("{NAME}-connector");
    assert!(
        deployments.get_opt(&name).await.unwrap().is_none(),
        "broken: no pods without secrets"
    );

    plant.secret("factory-hub", &[("other", "x")]).await;
    plant
        .says("a missing key is named", says, "False KeyNotFound")
        .await;
    plant.secret("factory-hub", &[("service", " ")]).await;
    plant
        .says("an empty value is named", says, "False KeyEmpty")
        .await;
    plant.secret("factory-hub", &[("service", "s1")]).await;
    plant.bound("a secret that appears starts the pods").await;
    settled(&operator.proxy).await;

    let before = digest(&plant).await;
    let first = rollouts(&plant).await;
    let begun = Instant::now();
    plant.secret("factory-hub", &[("service", "s2")]).await;
    within(
        ROTATION,
        "a rotated secret rolls the pods within 5 s",
        async || {
            if digest(&plant).await == before {
                Err("the old digest".into())
            } else {
                Ok(())
            }
        },
    )
    .await;
    println!(
        "X1: rotation to rollout in {} ms",
        begun.elapsed().as_millis()
    );
    plant.bound("a rollout ends").await;
    plant
        .put(&json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "factory-hub", "labels": {"touched": "yes"}},
            "stringData": {"service": "s2", "unused": "x"},
        }))
        .await;
    quiet(
        &operator.proxy,
        "when a secret is touched and no value that is used has changed",
    )
    .await;
    assert_eq!(
        rollouts(&plant).await,
        first + 1,
        "broken: one rollout for one rotation"
    );

    let pods = plant.template().await;
    secrets
        .delete("factory-hub", &DeleteParams::default())
        .await
        .unwrap();
    plant
        .says("a secret that goes is named", says, "False SecretNotFound")
        .await;
    quiet(&operator.proxy, "while a secret is missing").await;
    assert_eq!(
        plant.template().await,
        pods,
        "broken: pods are kept while a secret is missing"
    );
    plant.change(json!({"replicas": 2})).await;
    eventually("a connector without its secret can be scaled", async || {
        let found = deployments
            .get(&name)
            .await
            .map_err(|error| error.to_string())?;
        if found.data["spec"]["replicas"] == 2 {
            Ok(())
        } else {
            Err("still one".into())
        }
    })
    .await;
}

/// Connectors that share a secret, and how long all of them may take: five at a time replace their pods, on a
/// machine that does other things as well.
const MANY: usize = 50;
const ALL: Duration = Duration::from_secs(180);

#[tokio::test]
async fn x2_a_secret_of_many_connectors_rolls_each_of_them_once() {
    let Some(plant) = Plant::new("x2").await else {
        return;
    };
    let operator = plant.operator().await;
    // Without pods: this is about the operator's work, not about the controllers'.
    let names: Vec<_> = (0..MANY).map(|n| format!("shared-{n}")).collect();
    join_all(
        names
            .iter()
            .map(|name| plant.create(name, |spec| spec["replicas"] = json!(0))),
    )
    .await;
    let deployments = plant.children(ChildKind::Deployment);
    let digests = async || -> BTreeMap<String, String> {
        let found = deployments.list(&ListParams::default()).await.unwrap();
        let digest = |data: &serde_json::Value| {
            data["spec"]["template"]["metadata"]["annotations"][annotation::SECRET_DIGEST]
                .to_string()
        };
        let pairs = found
            .into_iter()
            .map(|found| (found.metadata.name.unwrap(), digest(&found.data)));
        pairs.collect()
    };
    within(
        2 * PATIENCE,
        "many connectors are made",
        async || match digests().await.len() {
            MANY => Ok(()),
            other => Err(format!("{other} Deployments")),
        },
    )
    .await;
    settled(&operator.proxy).await;
    let before = digests().await;
    let writes = operator.proxy.writes();
    let begun = Instant::now();
    plant.secret("factory-hub", &[("service", "s2")]).await;
    within(ALL, "one rotation rolls all connectors", async || {
        let after = digests().await;
        let same = before
            .iter()
            .filter(|(name, digest)| after.get(*name) == Some(digest))
            .count();
        if same == 0 {
            Ok(())
        } else {
            Err(format!("{same} have the old digest"))
        }
    })
    .await;
    println!(
        "X2: {MANY} connectors rolled in {} ms",
        begun.elapsed().as_millis()
    );
    // The controller comes round to them later, and then each says so.
    within(ALL, "each connector says that it has rolled", async || {
        let found = deployments.list(&ListParams::default()).await.unwrap();
        let seen = found.iter().filter(|found| {
            found.data["status"]["observedGeneration"].as_i64() == found.metadata.generation
        });
        let said = plant.untyped().list(&ListParams::default()).await.unwrap();
        let said = said.iter().filter(|found| {
            let status = from_value(found.data["status"].clone()).unwrap_or_default();
            condition(&status, "Progressing") == "False RolledOut"
        });
        match (seen.count(), said.count()) {
            (MANY, MANY) => Ok(()),
            other => Err(format!("{other:?} are seen and say so")),
        }
    })
    .await;
    settled(&operator.proxy).await;
    let seen = operator.proxy.seen();
    let applied = seen.iter().filter(|seen| seen.call.writes()).skip(writes);
    let applied = applied
        .filter(|seen| seen.call.resource == "deployments")
        .count();
    assert_eq!(applied, MANY, "broken: one write for each connector");
    quiet(&operator.proxy, "after a rotation").await;
}
