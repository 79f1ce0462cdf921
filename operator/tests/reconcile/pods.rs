//! What kubelets and connectors would do: pods that were made run, and their members report.

use connector_config::{MemberReport, Phase, annotation, label};
use futures::StreamExt;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::json;

/// Pods of images that begin like this do not run by themselves.
pub const HELD: &str = "held";

/// Runs the pods of this namespace from now on, as soon as they are made, but not those of [`HELD`] images.
pub fn run(client: Client, namespace: &str) {
    run_those(client, namespace, |pod| {
        let spec = pod.spec.as_ref();
        let images = spec
            .into_iter()
            .flat_map(|spec| &spec.containers)
            .filter_map(|container| container.image.as_deref());
        images.into_iter().all(|image| !image.starts_with(HELD))
    });
}

/// Runs all pods of this namespace from now on.
pub fn run_all(client: Client, namespace: &str) {
    run_those(client, namespace, |_| true);
}

fn run_those(client: Client, namespace: &str, which: fn(&Pod) -> bool) {
    let namespace = namespace.to_owned();
    let ours = watcher::Config::default().labels(&format!("{}={}", label::NAME, label::NAME_VALUE));
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(api.clone(), ours));
        while let Some(event) = events.next().await {
            let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event else {
                continue;
            };
            let status = pod.status.as_ref();
            let runs = status.is_some_and(|status| status.phase.as_deref() == Some("Running"));
            if pod.metadata.deletion_timestamp.is_none() && !runs && which(&pod) {
                // A pod that has gone meanwhile, or a namespace that goes, is no matter.
                let _ = report(&client, &namespace, &pod).await;
                let _ = start(&api, &pod).await;
            }
        }
    });
}

async fn start(api: &Api<Pod>, pod: &Pod) -> kube::Result<()> {
    let since = pod.metadata.creation_timestamp.clone();
    let status = json!({ "status": {
        "phase": "Running",
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": since},
            {"type": "ContainersReady", "status": "True", "lastTransitionTime": since},
        ],
    }});
    let name = pod.metadata.name.clone().unwrap_or_default();
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

async fn report(client: &Client, namespace: &str, pod: &Pod) -> kube::Result<()> {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let Some(connector) = labels.get(label::INSTANCE) else {
        return Ok(());
    };
    let Some(uid) = owner(client, namespace, connector).await? else {
        return Ok(());
    };
    let name = pod.metadata.name.clone().unwrap_or_default();
    let report = running(&name);
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {
            "name": format!("{name}-1"),
            "labels": {
                label::NAME: label::NAME_VALUE,
                label::COMPONENT: label::COMPONENT_MEMBER,
                label::INSTANCE: connector,
            },
            "annotations": {
                annotation::CONNECTOR_UID: uid,
                annotation::REPORT: serde_json::to_string(&report).unwrap(),
            },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod.metadata.uid,
            }],
        },
    }))
    .unwrap();
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    match api.create(&Default::default(), &lease).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

async fn owner(client: &Client, namespace: &str, name: &str) -> kube::Result<Option<String>> {
    let api: Api<operator::api::AzureIotHubConnector> = Api::namespaced(client.clone(), namespace);
    Ok(api
        .get_metadata_opt(name)
        .await?
        .and_then(|found| found.metadata.uid))
}

/// What a member says that is bound and reads nothing yet.
pub fn running(pod: &str) -> MemberReport {
    MemberReport {
        format: MemberReport::FORMAT,
        phase: Phase::Running,
        class: None,
        reason: String::new(),
        message: String::new(),
        thing: format!("AzureIot-{pod}"),
        group: Some("FactoryHub".into()),
        nodes_bound: 2,
        nodes: 2,
        partitions: Vec::new(),
        partitions_total: Some(4),
        settings_digest: String::new(),
        secret_digest: String::new(),
        pod_template_hash: String::new(),
        draining: false,
    }
}
