//! What kubelets and connectors would do: pods that were made run, and their members report.

use std::time::Duration;

use connector_config::{MemberReport, Phase, annotation, label};
use futures::StreamExt;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

/// An image that no registry has: pods of it never run.
pub const NO_SUCH_IMAGE: &str = "registry.invalid/connector:none";

/// Pods of images that begin like this run only when they are released.
pub const HELD: &str = "held";

/// What becomes of the pods of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All become ready, but not those of [`HELD`] images.
    Ready,
    /// Those become ready as well.
    Released,
    /// All run, and none is ready: what they need is down.
    Unready,
    /// New ones stay pending; the others are left as they are.
    Pending,
}

/// How often a kubelet looks again at pods that wait for what they mount, or that it could not speak of.
const AGAIN: Duration = Duration::from_millis(500);

/// What a kubelet has done with a pod.
enum Treated {
    /// All that there is to do.
    Done,
    /// What the pod mounts is not there.
    Waits,
}

/// The kubelet of a namespace; it works as long as this lives.
pub struct Kubelet(watch::Sender<Fate>);

impl Kubelet {
    /// Runs the pods of this namespace from now on, as soon as they are made.
    pub fn start(client: Client, namespace: &str) -> Self {
        let (sender, mut fate) = watch::channel(Fate::Ready);
        let worker = Worker {
            api: Api::namespaced(client.clone(), namespace),
            client,
            namespace: namespace.to_owned(),
        };
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(
                worker.api.clone(),
                watcher::Config::default().labels(&ours())
            ));
            let mut waits = false;
            loop {
                let pods = tokio::select! {
                    // What a pod mounts may come after it; a request may fail.
                    () = sleep(AGAIN), if waits => {
                        waits = false;
                        worker.all().await
                    }
                    event = events.next() => match event {
                        Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => Ok(vec![pod]),
                        Some(_) => continue,
                        None => return,
                    },
                    changed = fate.changed() => match changed {
                        Ok(()) => worker.all().await,
                        Err(_) => return,
                    },
                };
                let Ok(pods) = pods else {
                    waits = true;
                    continue;
                };
                let fate = *fate.borrow();
                for pod in &pods {
                    // A pod that has gone meanwhile is not listed again.
                    waits |= !matches!(worker.treat(pod, fate).await, Ok(Treated::Done));
                }
            }
        });
        Self(sender)
    }

    /// What becomes of pods from now on, also of those that are there.
    pub fn makes(&self, fate: Fate) {
        self.0.send_replace(fate);
    }
}

fn ours() -> String {
    format!("{}={}", label::NAME, label::NAME_VALUE)
}

/// Whether a pod is ready, and stays.
pub fn serves(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && ready(pod) == Some(true)
}

/// What a pod says of itself; `None` as long as it does not run.
fn ready(pod: &Pod) -> Option<bool> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let condition = conditions.find(|condition| condition.type_ == "Ready")?;
    Some(condition.status == "True")
}

struct Worker {
    client: Client,
    api: Api<Pod>,
    namespace: String,
}

impl Worker {
    async fn all(&self) -> kube::Result<Vec<Pod>> {
        let found = self.api.list(&ListParams::default().labels(&ours())).await;
        found.map(|list| list.items)
    }

    async fn treat(&self, pod: &Pod, fate: Fate) -> kube::Result<Treated> {
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(Treated::Done);
        }
        let is = ready(pod);
        let wanted = match fate {
            Fate::Pending => return Ok(Treated::Done),
            Fate::Ready if image(pod).starts_with(HELD) => return Ok(Treated::Done),
            Fate::Ready | Fate::Released => true,
            Fate::Unready => false,
        };
        if is == Some(wanted) {
            return Ok(Treated::Done);
        }
        if image(pod) == NO_SUCH_IMAGE {
            let waits = pod
                .status
                .as_ref()
                .and_then(|s| s.container_statuses.as_ref());
            if waits.is_none() {
                self.say(pod, &cannot_pull()).await?;
            }
            return Ok(Treated::Done);
        }
        if is.is_none() {
            if !self.mounts(pod).await? {
                return Ok(Treated::Waits);
            }
            self.report(pod).await?;
        }
        let status = if wanted { "True" } else { "False" };
        let since = &pod.metadata.creation_timestamp;
        let conditions = ["Ready", "ContainersReady"]
            .map(|kind| json!({"type": kind, "status": status, "lastTransitionTime": since}));
        self.say(pod, &json!({"phase": "Running", "conditions": conditions}))
            .await?;
        Ok(Treated::Done)
    }

    async fn say(&self, pod: &Pod, status: &Value) -> kube::Result<()> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let patch = Patch::Merge(json!({ "status": status }));
        self.api
            .patch_status(&name, &PatchParams::default(), &patch)
            .await
            .map(drop)
    }

    /// Whether all `ConfigMap`s are there that the pod mounts: a kubelet starts nothing before.
    async fn mounts(&self, pod: &Pod) -> kube::Result<bool> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
        for volume in volumes.into_iter().flatten() {
            if let Some(source) = &volume.config_map
                && api.get_metadata_opt(&source.name).await?.is_none()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn report(&self, pod: &Pod) -> kube::Result<()> {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let Some(connector) = labels.get(label::INSTANCE) else {
            return Ok(());
        };
        let Some(uid) = self.owner(connector).await? else {
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
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        match api.create(&Default::default(), &lease).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop),
        }
    }

    async fn owner(&self, name: &str) -> kube::Result<Option<String>> {
        let api: Api<operator::api::AzureIotHubConnector> =
            Api::namespaced(self.client.clone(), &self.namespace);
        Ok(api
            .get_metadata_opt(name)
            .await?
            .and_then(|found| found.metadata.uid))
    }
}

fn image(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    let container = spec.and_then(|spec| spec.containers.first());
    let image = container.and_then(|container| container.image.as_deref());
    image.unwrap_or_default()
}

fn cannot_pull() -> Value {
    json!({"phase": "Pending", "containerStatuses": [{
        "name": "connector", "image": NO_SUCH_IMAGE, "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff"}},
    }]})
}

/// What a member says that is bound and reads nothing yet.
pub fn running(pod: &str) -> MemberReport {
    MemberReport {
        phase: Phase::Running,
        group: Some("FactoryHub".into()),
        nodes_bound: 2,
        nodes: 2,
        partitions_total: Some(4),
        ..MemberReport::new(format!("AzureIot-{pod}"))
    }
}
