//! What kubelets and connectors would do: pods that were made run, and their members report.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use connector_config::{MemberReport, Phase, annotation, label};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

/// Looks at the pods of a namespace this often: a kubelet takes longer to start one.
const LOOK: Duration = Duration::from_millis(250);

/// Runs pods while it is not told to stop.
#[derive(Clone, Default)]
pub struct Pods {
    held: Arc<AtomicBool>,
}

impl Pods {
    /// Runs the pods of this namespace from now on.
    pub fn run(client: Client, namespace: &str) -> Self {
        let pods = Self::default();
        let held = Arc::clone(&pods.held);
        let namespace = namespace.to_owned();
        tokio::spawn(async move {
            loop {
                if !held.load(Ordering::Relaxed) {
                    // A pod that has gone meanwhile, or a namespace that goes, is no matter.
                    let _ = start_all(&client, &namespace).await;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        pods
    }

    /// New pods stay pending from now on, or no longer.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }
}

async fn start_all(client: &Client, namespace: &str) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(&format!("{}={}", label::NAME, label::NAME_VALUE));
    for pod in api.list(&ours).await? {
        let running =
            |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.clone()) == Some("Running".into());
        if pod.metadata.deletion_timestamp.is_none() && !running(&pod) {
            report(client, namespace, &pod).await?;
            start(&api, &pod).await?;
        }
    }
    Ok(())
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
