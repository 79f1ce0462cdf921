//! What others do to the children.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use operator::{
    api::{PullPolicy, validate},
    desired::{Child, ChildKind, Defaults, Owner, desired},
    refs::{SecretDigest, references},
};
use serde_json::{Value, json};

use crate::{
    instance::Instance,
    plant::{NAME, Plant, condition},
    wait::{eventually, quiet},
};

#[tokio::test]
async fn d1_a_deleted_child_is_made_again() {
    let Some(plant) = Plant::new("d1").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    let before = plant.snapshot().await;
    for (kind, child) in plant.objects(NAME).await {
        let (name, uid) = (child.metadata.name.unwrap(), child.metadata.uid);
        let api = plant.children(kind);
        api.delete(&name, &DeleteParams::background())
            .await
            .unwrap();
        let promise = format!("a deleted {} is made again", kind.as_str());
        eventually(&promise, async || match api.get_opt(&name).await {
            Ok(Some(found)) if found.metadata.uid != uid => Ok(()),
            Ok(_) => Err("it is not there".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .await;
    }
    plant.bound("the connector is ready again").await;
    plant.becomes("all is as before", &before).await;
    quiet(&operator.proxy, "after all children were made again").await;
}

/// What the operator asks for: the fields that it owns.
async fn wanted(plant: &Plant, name: &str) -> Vec<Child> {
    let connector = plant.connectors().get(name).await.unwrap();
    let owner = Owner {
        namespace: plant.namespace.clone(),
        name: name.into(),
        uid: connector.metadata.uid.unwrap(),
    };
    let spec = validate(&connector.spec).unwrap();
    let references = references(&spec.thingworx, &spec.iot_hub, None);
    let values = references.iter().map(|reference| match reference.field {
        "thingworx.appKey" => (reference, &b"k1"[..]),
        _ => (reference, &b"s1"[..]),
    });
    let defaults = Defaults {
        image: concat!(
            "localhost/azure-iot-hub-connector:",
            env!("CARGO_PKG_VERSION")
        )
        .into(),
        pull_policy: PullPolicy::IfNotPresent,
    };
    desired(
        &owner,
        &spec,
        &SecretDigest::of(&owner.uid, values),
        &defaults,
        None,
    )
    .unwrap()
}

/// Paths of all leaves.
fn leaves(tree: &Value, path: &str, found: &mut Vec<String>) {
    match tree {
        Value::Object(map) if !map.is_empty() => {
            for (key, tree) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                leaves(tree, &format!("{path}/{key}"), found);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (index, tree) in list.iter().enumerate() {
                leaves(tree, &format!("{path}/{index}"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

/// Another value of the same type that a careless hand might write.
fn other(value: &Value) -> Value {
    match value {
        Value::Bool(value) => json!(!value),
        Value::Number(number) => json!(number.as_i64().unwrap_or_default() + 1),
        Value::String(text) if text.ends_with('i') => json!("7Mi"),
        Value::String(text) if text == "IfNotPresent" => json!("Always"),
        Value::String(text) if text == "AlwaysAllow" => json!("IfHealthyBudget"),
        Value::String(text) => json!(format!("{text}x")),
        _ => json!("x"),
    }
}

/// Whether a leaf is what names an element of a list: with another value it is one more element, which
/// belongs to whoever wrote it, beside ours.
fn names(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let (name, index) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let keys = [
        "name",
        "mountPath",
        "containerPort",
        "protocol",
        "topologyKey",
        "whenUnsatisfiable",
    ];
    let of_list = index.parse::<usize>().is_ok() && keys.contains(&name);
    // With another owner garbage collection takes the object, and D1 is about that.
    of_list
        || (path.contains("/ownerReferences/")
            && !matches!(name, "controller" | "blockOwnerDeletion"))
}

/// Overwrites and removes fields of a child, one by one: those whose number leaves `share` when divided by
/// [`SHARES`]. Says how often the API server let that through.
async fn overwrite_fields(plant: &Plant, child: &Child, share: usize) -> usize {
    let mut paths = Vec::new();
    leaves(&child.object, "", &mut paths);
    let api = plant.children(child.kind);
    let mut drifted = 0;
    let ours = paths
        .iter()
        .filter(|path| !names(path))
        .skip(share)
        .step_by(SHARES);
    for path in ours {
        let value = child.object.pointer(path).unwrap();
        for value in [Some(other(value)), None] {
            drifted += usize::from(drift(&api, child, path, value).await);
        }
    }
    drifted
}

/// The same path in an object to whose lists somebody may have added.
fn in_live(wanted: &Value, live: &Value, path: &str) -> String {
    let (mut wanted, mut live, mut found) = (wanted, live, String::new());
    for part in path.split('/').skip(1) {
        let mut part = part.to_owned();
        if let (Value::Array(ours), Value::Array(all)) = (wanted, live) {
            wanted = &ours[part.parse::<usize>().unwrap()];
            let same = |element: &&Value| {
                let key = ["mountPath", "name"]
                    .into_iter()
                    .find(|key| wanted.get(*key).is_some());
                key.is_some_and(|key| element.get(key) == wanted.get(key))
            };
            if let Some(element) = all.iter().find(same) {
                part = all
                    .iter()
                    .position(|other| std::ptr::eq(other, element))
                    .unwrap()
                    .to_string();
            }
        } else {
            wanted = &wanted[&part.replace("~1", "/")];
        }
        found += &format!("/{part}");
        live = live.pointer(&format!("/{part}")).unwrap_or(&Value::Null);
    }
    found
}

async fn drift(api: &Api<DynamicObject>, child: &Child, path: &str, value: Option<Value>) -> bool {
    let before = serde_json::to_value(api.get(&child.name).await.unwrap()).unwrap();
    let path = &in_live(&child.object, &before, path);
    let was = before.pointer(path).cloned();
    let edit = match value {
        Some(value) => json!([{"op": "replace", "path": path, "value": value}]),
        None => json!([{"op": "remove", "path": path}]),
    };
    let patch: Patch<Value> = Patch::Json(serde_json::from_value(edit.clone()).unwrap());
    let params = PatchParams {
        field_manager: Some("somebody".into()),
        ..PatchParams::default()
    };
    // What cannot be written cannot drift.
    let Ok(after) = api.patch(&child.name, &params, &patch).await else {
        return false;
    };
    if serde_json::to_value(&after).unwrap().pointer(path) == was.as_ref() {
        return false;
    }
    let kind = child.kind.as_str();
    let promise = format!("{kind}: somebody's {edit} is undone");
    eventually(&promise, async || {
        let now = api
            .get(&child.name)
            .await
            .map_err(|error| error.to_string())?;
        let now = serde_json::to_value(now).unwrap();
        match now.pointer(path) == was.as_ref() {
            true => Ok(()),
            false => Err(format!("it is {:?}", now.pointer(path))),
        }
    })
    .await;
    true
}

/// Connectors that share the fields among them, because each waits for the operator in turn.
const SHARES: usize = 6;

#[tokio::test]
async fn d2_managed_fields_are_restored_and_others_left_alone() {
    let Some(plant) = Plant::new("d2").await else {
        return;
    };
    let operator = plant.operator().await;
    let drifts = join_all((0..SHARES).map(|share| drifts_of(&plant, &operator, share))).await;
    let mut sum = BTreeMap::new();
    for (kind, n) in drifts.into_iter().flatten() {
        *sum.entry(kind.as_str()).or_insert(0) += n;
    }
    println!("D2: fields overwritten or removed, and restored: {sum:?}");
    // Fewer would mean that the test no longer writes what it means to.
    assert!(
        sum["Deployment"] > 100 && sum.values().all(|n| *n > 10),
        "{sum:?}"
    );
}

/// One connector: others add to its children, which stays, and change its fields, which does not.
async fn drifts_of(plant: &Plant, operator: &Instance, share: usize) -> Vec<(ChildKind, usize)> {
    let name = format!("{NAME}-{share}");
    // Without pods, so that each change of the template is no rollout.
    plant
        .create(&name, |spec| spec["replicas"] = json!(0))
        .await;
    eventually("a stopped connector is ready", async || {
        let is = condition(&plant.status_of(&name).await, "Progressing");
        if is == "False RolledOut" {
            Ok(())
        } else {
            Err(format!("Ready is {is:?}"))
        }
    })
    .await;
    let children = wanted(plant, &name).await;
    add_to(plant, &children).await;
    let writes = || {
        operator
            .proxy
            .count(|call| call.writes_child() && call.name.contains(&name))
    };
    let before = writes();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        writes(),
        before,
        "broken: what others add is not answered by writes"
    );
    let drifted = join_all(
        children
            .iter()
            .map(|child| overwrite_fields(plant, child, share)),
    )
    .await;
    for child in &children {
        let found = plant.children(child.kind).get(&child.name).await.unwrap();
        let found = serde_json::to_value(found).unwrap();
        let kept = (
            &found["metadata"]["labels"]["team"],
            &found["metadata"]["annotations"]["note"],
        );
        let kind = child.kind.as_str();
        assert_eq!(
            kept,
            (&json!("blue"), &json!("x")),
            "broken: {kind} keeps what others added"
        );
        if child.kind == ChildKind::Deployment {
            let template = found["spec"]["template"].to_string();
            for theirs in ["restartedAt", "sidecar:1"] {
                assert!(
                    template.contains(theirs),
                    "broken: pods keep {theirs}: {template}"
                );
            }
        }
    }
    children
        .iter()
        .map(|child| child.kind)
        .zip(drifted)
        .collect()
}

/// What `kubectl label`, `kubectl rollout restart` and an injector of sidecars do.
async fn add_to(plant: &Plant, children: &[Child]) {
    let team = json!({"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "x"}}});
    let more = json!({"spec": {"template": {
        "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
        "spec": {"containers": [{"name": "sidecar", "image": "sidecar:1"}]},
    }}});
    let somebody = PatchParams::default();
    for child in children {
        let api = plant.children(child.kind);
        api.patch(&child.name, &somebody, &Patch::Merge(&team))
            .await
            .unwrap();
        if child.kind == ChildKind::Deployment {
            api.patch(&child.name, &somebody, &Patch::Strategic(&more))
                .await
                .unwrap();
        }
    }
}
