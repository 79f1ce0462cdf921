//! What the chart installs, and what the API server takes and refuses by it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::{
    control_plane,
    plant::{Plant, example},
};

#[tokio::test]
async fn c1_the_chart_installs_and_every_example_is_taken() {
    let Some(plant) = Plant::new("c1").await else {
        return;
    };
    let operators = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "operators"},
    });
    plant.put(&operators).await;
    for values in [&[][..], &["watchNamespaces={c1}"]] {
        for object in plant.plane.chart(values).unwrap() {
            let applied = control_plane::apply(&plant.client, &object).await;
            if let Err(error) = applied {
                panic!("broken: the chart installs: {object}: {error}");
            }
        }
    }
    let definitions: Api<CustomResourceDefinition> = Api::all(plant.client.clone());
    let found = definitions
        .get("azureiothubconnectors.iot-connectors.dev")
        .await
        .unwrap();
    let conditions = found
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let is = |kind: &str| {
        let found = conditions.iter().find(|condition| condition.type_ == kind);
        found.is_some_and(|condition| condition.status == "True")
    };
    assert!(
        is("Established") && !is("NonStructuralSchema"),
        "broken: {conditions:?}"
    );
    for name in ["minimal", "full", "azure-blob"] {
        let object = serde_json::from_value(example(name)).unwrap();
        let made = plant
            .untyped()
            .create(&PostParams::default(), &object)
            .await;
        assert!(
            made.is_ok(),
            "broken: the example {name} is taken: {made:?}"
        );
    }
}

/// A spec that must be refused: what is wrong, how it differs from the least that runs, and a word of the
/// server's answer.
fn wrong() -> Vec<(&'static str, Value, &'static str)> {
    let service = json!({"name": "twx", "port": 8443});
    let blob = json!({"container": "Marks", "connectionString": {"secretKeyRef": {"name": "s", "key": "k"}}});
    vec![
        (
            "both ways",
            json!({"thingworx": {"service": service}}),
            "not both",
        ),
        (
            "no way",
            json!({"thingworx": {"endpoints": []}}),
            "give either thingworx.endpoints",
        ),
        (
            "two stores",
            json!({"checkpoints": {"kubernetes": {}, "azureBlob": blob}}),
            "exactly one of checkpoints",
        ),
        (
            "no store",
            json!({"checkpoints": {}}),
            "exactly one of checkpoints",
        ),
        (
            "a container's name",
            json!({"checkpoints": {"azureBlob": blob}}),
            "spec.checkpoints.azureBlob.container",
        ),
        (
            "less than no pods",
            json!({"replicas": -1}),
            "spec.replicas",
        ),
        (
            "more pods than can be counted",
            json!({"replicas": 5_000_000_000_u64}),
            "spec.replicas",
        ),
        ("no Thing", json!({"hubThingName": ""}), "spec.hubThingName"),
        (
            "a Thing with a blank",
            json!({"hubThingName": " Hub"}),
            "spec.hubThingName",
        ),
        (
            "an empty group",
            json!({"routingGroup": ""}),
            "spec.routingGroup",
        ),
        (
            "no pipes",
            json!({"thingworx": {"pipes": 0}}),
            "spec.thingworx.pipes",
        ),
        (
            "many pipes",
            json!({"thingworx": {"pipes": 17}}),
            "spec.thingworx.pipes",
        ),
        (
            "no patience",
            json!({"thingworx": {"platformRequestTimeoutSeconds": 4}}),
            "platformRequestTimeoutSeconds",
        ),
        (
            "an unknown selection",
            json!({"thingworx": {"nodeSelection": "Random"}}),
            "spec.thingworx.nodeSelection",
        ),
        (
            "an unknown transport",
            json!({"iotHub": {"transport": "Mqtt"}}),
            "spec.iotHub.transport",
        ),
        (
            "a proxy with a user",
            json!({"iotHub": {"proxy": "http://u@p:1"}}),
            "spec.iotHub.proxy",
        ),
        (
            "no rate",
            json!({"iotHub": {"eventHubs": {"catchUpRate": 0}}}),
            "catchUpRate",
        ),
        (
            "a rate that is no number of events",
            json!({"iotHub": {"eventHubs": {"catchUpRate": 5_000_000_000_u64}}}),
            "catchUpRate",
        ),
        (
            "no secret",
            json!({"thingworx": {"appKey": null}}),
            "spec.thingworx.appKey",
        ),
        (
            "no amount",
            json!({"pod": {"resources": {"limits": {"memory": "much"}}}}),
            "spec.pod.resources.limits",
        ),
        (
            "an unknown pull policy",
            json!({"pod": {"imagePullPolicy": "Sometimes"}}),
            "spec.pod.imagePullPolicy",
        ),
    ]
}

fn merge(tree: &mut Value, patch: &Value) {
    match (tree, patch) {
        (Value::Object(tree), Value::Object(patch)) => {
            for (key, patch) in patch {
                if patch.is_null() {
                    tree.remove(key);
                } else {
                    merge(tree.entry(key.clone()).or_insert(Value::Null), patch);
                }
            }
        }
        (tree, patch) => *tree = patch.clone(),
    }
}

#[tokio::test]
async fn c2_what_cannot_be_is_refused_with_its_reason() {
    let Some(plant) = Plant::new("c2").await else {
        return;
    };
    let api = plant.untyped();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    for (what, patch, says) in wrong() {
        let mut object = example("minimal");
        merge(&mut object["spec"], &patch);
        let refused = api
            .create(&dry, &serde_json::from_value(object).unwrap())
            .await;
        let answer = refused.map_or_else(|error| error.to_string(), |_| "taken".to_owned());
        assert!(
            answer.contains(says),
            "broken: {what} is refused with {says:?}: {answer}"
        );
    }
    let mut long = example("minimal");
    long["metadata"]["name"] = json!("n".repeat(41));
    let refused = api
        .create(&dry, &serde_json::from_value(long).unwrap())
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("at most 40 characters"),
        "{refused}"
    );

    // Thing and group change only while nothing runs.
    plant.connect(1).await;
    let changes = [
        json!({"hubThingName": "Other"}),
        json!({"routingGroup": "Group"}),
    ];
    for change in &changes {
        let refused = plant.merge(&json!({ "spec": change })).await;
        let answer = refused.map_or_else(|error| error.to_string(), |()| "taken".to_owned());
        assert!(
            answer.contains("scaled to 0"),
            "broken: {change} of what runs is refused: {answer}"
        );
    }
    plant.change(json!({"replicas": 0})).await;
    for change in &changes {
        let taken = plant.merge(&json!({ "spec": change })).await;
        assert!(
            taken.is_ok(),
            "broken: {change} of what is stopped is taken: {taken:?}"
        );
    }
    let started = json!({"spec": {"replicas": 1}});
    plant.merge(&started).await.unwrap();
    let removed = plant.merge(&json!({"spec": {"routingGroup": null}})).await;
    assert!(
        removed.is_err(),
        "broken: a group of what runs is not removed"
    );
}
