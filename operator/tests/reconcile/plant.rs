//! A namespace of one test: connectors, what they refer to, and what the operator makes of them.

use std::collections::{BTreeMap, BTreeSet};

use connector_config::label;
use k8s_openapi::api::{
    core::v1::{Pod, Secret},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use operator::{
    api::{AzureIotHubConnector, AzureIotHubConnectorStatus},
    desired::ChildKind,
};
use serde_json::{Value, json};

use crate::{
    control_plane::{self, ControlPlane},
    instance::Instance,
    invariant::Invariants,
    pods::{Kubelet, serves},
    proxy::Proxy,
    snapshot::{Snapshot, plain},
    wait::{eventually, rarely},
};

/// Name of a test's connector, if it has one.
pub const NAME: &str = "factory";

/// A namespace of one test.
pub struct Plant {
    pub plane: &'static ControlPlane,
    pub namespace: String,
    /// The administrator's.
    pub client: Client,
    pub kubelet: Kubelet,
    _invariants: Invariants,
}

impl Plant {
    /// A new namespace in which pods run as soon as they are made; `None` where there is no server.
    pub async fn new(namespace: &str) -> Option<Self> {
        let plane = control_plane::shared().await?;
        let client = plane.admin();
        let plant = Self {
            plane,
            namespace: namespace.to_owned(),
            _invariants: Invariants::watch(client.clone(), namespace),
            kubelet: Kubelet::start(client.clone(), namespace),
            client,
        };
        plant
            .put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
            .await;
        plant.allow("operator-azure-iot-hub-connector").await;
        plant
            .secret("factory-hub", &[("service", "s1"), ("events", "e1")])
            .await;
        plant.secret("factory-thingworx", &[("appKey", "k1")]).await;
        Some(plant)
    }

    /// Applies an object, in this namespace if it is of none.
    pub async fn put(&self, object: &Value) {
        let mut object = object.clone();
        if !matches!(
            &*control_plane::kind(&object),
            "Namespace" | "ClusterRole" | "ClusterRoleBinding"
        ) {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        if let Err(error) = control_plane::apply(&self.client, &object).await {
            panic!("{object}: {error}");
        }
    }

    /// Gives the operator the rights of this role, and takes what it had before.
    pub async fn allow(&self, role: &str) {
        let api: Api<ClusterRoleBinding> = Api::all(self.client.clone());
        let name = self.user();
        let _ = api.delete(&name, &DeleteParams::default()).await;
        self.put(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        }))
        .await;
    }

    /// The API server's name of this test's operator.
    pub fn user(&self) -> String {
        format!("operator-of-{}", self.namespace)
    }

    /// Starts an operator over this namespace.
    pub async fn operator(&self) -> Instance {
        self.starting().await.ready().await
    }

    /// Starts an operator over this namespace with more words on its command line.
    pub async fn told(&self, words: &[&str]) -> Instance {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        let proxy = Proxy::new(self.plane, &self.user()).await;
        let namespaces = std::slice::from_ref(&self.namespace);
        let started = Instance::told(&words, proxy, self.plane, namespaces).await;
        started.ready().await
    }

    /// Starts one of several that stand for election.
    pub async fn candidate(&self) -> Instance {
        let namespaces = std::slice::from_ref(&self.namespace);
        let started = Instance::candidate(self.plane, &self.user(), namespaces).await;
        started.ready().await
    }

    /// The same, without waiting until it knows the cluster.
    pub async fn starting(&self) -> Instance {
        Instance::start(
            self.plane,
            &self.user(),
            std::slice::from_ref(&self.namespace),
        )
        .await
    }

    pub async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let values: BTreeMap<_, _> = values.iter().copied().collect();
        self.put(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values,
        }))
        .await;
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn connectors(&self) -> Api<AzureIotHubConnector> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The connectors without their types, for what does not fit them.
    pub fn untyped(&self) -> Api<DynamicObject> {
        let resource = kube::core::ApiResource::erase::<AzureIotHubConnector>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    pub fn children(&self, kind: ChildKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// Makes the test's connector.
    pub async fn connect(&self, replicas: i32) -> AzureIotHubConnector {
        self.create(NAME, |spec| spec["replicas"] = json!(replicas))
            .await
    }

    /// Makes a connector like the least that runs, with changes.
    pub async fn create(&self, name: &str, edit: impl FnOnce(&mut Value)) -> AzureIotHubConnector {
        let mut object = example("minimal");
        object["metadata"] = json!({ "name": name });
        edit(&mut object["spec"]);
        let object = serde_json::from_value(object).unwrap();
        match self.untyped().create(&PostParams::default(), &object).await {
            Ok(made) => made.try_parse().unwrap(),
            Err(error) => panic!("{name} is not taken: {error}"),
        }
    }

    /// Changes the spec of the test's connector.
    pub async fn change(&self, spec: Value) {
        self.merge(&json!({ "spec": spec })).await.unwrap();
    }

    /// Changes the test's connector, if the API server takes it.
    pub async fn merge(&self, patch: &Value) -> kube::Result<()> {
        let params = PatchParams::default();
        let patched = self
            .untyped()
            .patch(NAME, &params, &Patch::Merge(patch))
            .await;
        patched.map(drop)
    }

    /// The test's connector as it is.
    pub async fn connector(&self) -> AzureIotHubConnector {
        self.connectors().get(NAME).await.unwrap()
    }

    /// What is said of the test's connector.
    pub async fn status(&self) -> AzureIotHubConnectorStatus {
        self.status_of(NAME).await
    }

    pub async fn status_of(&self, name: &str) -> AzureIotHubConnectorStatus {
        let found = self.untyped().get_status(name).await.unwrap();
        serde_json::from_value(found.data["status"].clone()).unwrap_or_default()
    }

    /// Waits for a condition to say this of what is stored now.
    pub async fn says(&self, promise: &str, kind: &str, says: &str) {
        eventually(promise, async || self.said(kind, says).await.map(drop)).await;
    }

    /// The status, if a condition says this of what is stored now.
    async fn said(&self, kind: &str, says: &str) -> Result<AzureIotHubConnectorStatus, String> {
        let found = self.untyped().get(NAME).await;
        let found = found.map_err(|error| error.to_string())?;
        let status: AzureIotHubConnectorStatus =
            serde_json::from_value(found.data["status"].clone()).unwrap_or_default();
        let is = condition(&status, kind);
        if is == says && status.observed_generation == found.metadata.generation {
            Ok(status)
        } else {
            Err(format!("{kind} is {is:?} and not {says:?}"))
        }
    }

    /// Waits until all pods of the test's connector are bound, of the latest template, and the status tells of
    /// these: after a change of anything but the spec what it says may be of the time before. Settings that
    /// no pod uses are gone by then, of which the status says nothing.
    pub async fn bound(&self, promise: &str) {
        eventually(promise, async || {
            let status = self.said("Ready", "True AllMembersBound").await?;
            let wanted = self.rolled_out().await?;
            let told: BTreeSet<_> = status.members.into_iter().filter_map(|m| m.pod).collect();
            let there = self.pods(NAME).await;
            let serving = there.iter().filter(|pod| serves(pod));
            let serving: BTreeSet<_> = serving.map(ResourceExt::name_any).collect();
            let settings = self.children(ChildKind::ConfigMap).list(&of(NAME)).await;
            let settings = settings.map_err(|error| error.to_string())?.items.len();
            let counts = [there.len(), serving.len()];
            match told == serving && counts == [wanted; 2] && settings == 1 {
                true => Ok(()),
                false => Err(format!(
                    "of {} pods {serving:?} serve and {told:?} are told of; {settings} settings",
                    there.len()
                )),
            }
        })
        .await;
    }

    /// How many pods the Deployment of the test's connector has, if all of them are of its latest template.
    pub async fn rolled_out(&self) -> Result<usize, String> {
        let deployments = self.children(ChildKind::Deployment);
        let found = deployments.get(&format!("{NAME}-connector")).await;
        let found = found.map_err(|error| error.to_string())?;
        let (wanted, status) = (&found.data["spec"]["replicas"], &found.data["status"]);
        let seen = status["observedGeneration"].as_i64() == found.metadata.generation;
        let counts = ["replicas", "updatedReplicas", "availableReplicas"];
        match wanted.as_u64() {
            Some(n) if seen && counts.iter().all(|&key| status[key] == *wanted) => {
                usize::try_from(n).map_err(|error| error.to_string())
            }
            _ => Err(status.to_string()),
        }
    }

    /// The pods of a connector of this name, also those that end.
    pub async fn pods(&self, name: &str) -> Vec<Pod> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        api.list(&of(name)).await.unwrap().items
    }

    /// The children of a connector of this name.
    pub async fn objects(&self, name: &str) -> Vec<(ChildKind, DynamicObject)> {
        let ours = of(name);
        let mut all = Vec::new();
        for kind in ChildKind::ALL {
            let found = self.children(kind).list(&ours).await.unwrap();
            all.extend(found.into_iter().map(|object| (kind, object)));
        }
        all
    }

    /// The children of the test's connector and what is said of it, without what differs from one
    /// cluster to the next.
    pub async fn snapshot(&self) -> Snapshot {
        self.snapshot_of(NAME).await
    }

    pub async fn snapshot_of(&self, name: &str) -> Snapshot {
        let children = self.objects(name).await;
        let found = self.untyped().get(name).await.unwrap();
        let status = serde_json::from_value(found.data["status"].clone()).unwrap_or_default();
        plain(
            &self.namespace,
            &children,
            &self.pods(name).await,
            &status,
            found.metadata.generation,
        )
    }

    /// Waits until children and status are as in `expected`.
    pub async fn becomes(&self, promise: &str, expected: &Snapshot) {
        rarely(promise, async || self.snapshot().await.differs(expected)).await;
    }

    /// All children as they were written last. Not by their versions, which change as well when a controller
    /// comes round to their status.
    pub async fn written(&self) -> BTreeMap<String, Value> {
        let objects = self.objects(NAME).await;
        let written = objects.into_iter().map(|(kind, mut object)| {
            let name = format!("{} {}", kind.as_str(), object.name_any());
            object.metadata.resource_version = None;
            let writers = object.metadata.managed_fields.iter_mut();
            writers.for_each(|all| all.retain(|by| by.subresource.is_none()));
            object.data["status"].take();
            (name, serde_json::to_value(object).unwrap())
        });
        written.collect()
    }

    /// Template of the pods.
    pub async fn template(&self) -> Value {
        let deployments = self.children(ChildKind::Deployment);
        let found = deployments.get(&format!("{NAME}-connector")).await.unwrap();
        found.data["spec"]["template"].clone()
    }
}

/// What belongs to a connector of this name.
pub fn of(name: &str) -> ListParams {
    ListParams::default().labels(&format!("{}={name}", label::INSTANCE))
}

/// Status and reason of a condition; empty if it is not there.
pub fn condition(status: &AzureIotHubConnectorStatus, kind: &str) -> String {
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind);
    found.map_or_else(String::new, |condition| {
        format!("{} {}", condition.status, condition.reason)
    })
}

/// An example of the repository.
pub fn example(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../crds/examples/{name}.yaml"));
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
