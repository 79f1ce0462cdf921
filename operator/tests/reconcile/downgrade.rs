//! What older definitions make of what this version has stored.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use operator::api::crd;
use serde_json::{Value, json};

use crate::{
    plant::{NAME, Plant, example},
    released::releases,
    wait::eventually,
};

/// Resources that say all that can be said.
const EXAMPLES: [&str; 3] = ["full", "azure-blob", "minimal"];

/// Fields that a release does not know: an API server with its definition drops them. Whoever goes back loses
/// what they say, and nothing else.
fn unknown(version: &str) -> &'static [&'static str] {
    match version {
        "0.1.0" => &[
            ".spec.checkpoints.azureBlob",
            ".spec.iotHub.commands",
            ".spec.iotHub.deadLetter",
            ".spec.iotHub.messages",
            ".spec.iotHub.proxy",
            ".spec.iotHub.registryConnectionString",
            ".spec.iotHub.tier",
            ".spec.iotHub.transport",
            ".spec.iotHub.units",
            ".spec.pod.annotations",
            ".spec.pod.labels",
            ".spec.thingworx.bindDevices",
            ".spec.thingworx.deviceServices",
            ".spec.thingworx.writeService",
            ".status.operator",
        ],
        other => panic!("which fields does {other} not know?"),
    }
}

/// A definition of a group of its own, beside the one that all tests use.
struct Beside {
    group: String,
    plural: String,
}

impl Beside {
    fn new(version: &str) -> Self {
        Self {
            group: format!("r{}.example.com", version.replace('.', "-")),
            plural: "azureiothubconnectors".into(),
        }
    }

    /// Makes it what this one says; short names and categories stay the real one's.
    async fn becomes(&self, plant: &Plant, definition: &Value) {
        let mut spec = definition["spec"].clone();
        spec["group"] = json!(self.group);
        let names = spec["names"].as_object_mut().unwrap();
        names.retain(|key, _| !matches!(&**key, "shortNames" | "categories"));
        let name = format!("{}.{}", self.plural, self.group);
        let api: Api<CustomResourceDefinition> = Api::all(plant.client.clone());
        let found = api.get_opt(&name).await.unwrap();
        let version = found.and_then(|found| found.metadata.resource_version);
        let object: CustomResourceDefinition = serde_json::from_value(json!({
            "metadata": {"name": name, "resourceVersion": version}, "spec": spec,
        }))
        .unwrap();
        match object.metadata.resource_version {
            None => api.create(&Default::default(), &object).await,
            Some(_) => api.replace(&name, &Default::default(), &object).await,
        }
        .unwrap();
    }

    fn resource(&self) -> ApiResource {
        let kind = GroupVersionKind::gvk(&self.group, "v1alpha1", "AzureIotHubConnector");
        ApiResource::from_gvk_with_plural(&kind, &self.plural)
    }
}

/// Paths of what is gone; elements of a list have one path.
fn lost(path: &str, before: &Value, after: &Value, found: &mut BTreeSet<String>) {
    match before {
        Value::Object(map) => {
            for (key, before) in map {
                let path = format!("{path}.{key}");
                match after.get(key) {
                    Some(after) => lost(&path, before, after, found),
                    None => drop(found.insert(path)),
                }
            }
        }
        Value::Array(list) => {
            for (index, before) in list.iter().enumerate() {
                lost(&format!("{path}[]"), before, &after[index], found);
            }
        }
        _ => {}
    }
}

/// Resources of this version, with all that they can say.
async fn store(plant: &Plant, api: &Api<DynamicObject>, resource: &ApiResource, status: &Value) {
    eventually("a definition is established", async || {
        let listed = api.list(&Default::default()).await;
        listed.map(drop).map_err(|error| error.to_string())
    })
    .await;
    for name in EXAMPLES {
        let mut object = DynamicObject::new(name, resource);
        object.data = json!({"spec": example(name)["spec"].take()});
        object.metadata.namespace = Some(plant.namespace.clone());
        api.create(&PostParams::default(), &object).await.unwrap();
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams::default();
        api.patch_status(name, &params, &patch).await.unwrap();
    }
}

#[tokio::test]
async fn u2_what_is_stored_is_read_by_each_release_but_for_the_fields_it_does_not_know() {
    let Some(plant) = Plant::new("u2").await else {
        return;
    };
    let _operator = plant.operator().await;
    plant.connect(2).await;
    plant.bound("a new connector becomes ready").await;
    let status = plant.untyped().get_status(NAME).await.unwrap().data["status"].take();
    let today: Value = serde_yaml::from_str(&crd::yaml().unwrap()).unwrap();
    for release in releases() {
        let beside = Beside::new(&release.version);
        beside.becomes(&plant, &today).await;
        let resource = beside.resource();
        let api: Api<DynamicObject> =
            Api::namespaced_with(plant.client.clone(), &plant.namespace, &resource);
        store(&plant, &api, &resource, &status).await;
        let stored = api.list(&Default::default()).await.unwrap();
        beside.becomes(&plant, &release.definition()).await;
        let expected: BTreeSet<_> = unknown(&release.version)
            .iter()
            .map(|&path| path.to_owned())
            .collect();
        let promise = format!("{} drops what is named and nothing else", release.version);
        eventually(&promise, async || {
            let mut dropped = BTreeSet::new();
            for before in &stored {
                let after = api.get(before.metadata.name.as_deref().unwrap()).await;
                let after = after.map_err(|error| error.to_string())?;
                lost("", &before.data, &after.data, &mut dropped);
            }
            match dropped == expected {
                true => Ok(()),
                false => Err(format!("{dropped:#?}")),
            }
        })
        .await;
        // Its operator can say how things are, whatever it finds.
        for name in EXAMPLES {
            let patch = Patch::Merge(json!({"status": {"replicas": 7}}));
            let said = api
                .patch_status(name, &PatchParams::default(), &patch)
                .await;
            assert!(
                said.is_ok(),
                "broken: an older version answers {name}: {said:?}"
            );
        }
    }
}
