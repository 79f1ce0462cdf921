//! What a spec asks for is done, and what it asked for before leaves no trace.

use std::time::{Duration, Instant};

use futures::future::join_all;
use kube::api::{Patch, PatchParams};
use operator::desired::ChildKind;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::{
    field::fields,
    plant::{NAME, Plant, example},
    wait::{eventually, form, quiet, rarely, settled},
};

async fn try_set(plant: &Plant, name: &str, spec: &Value) -> kube::Result<()> {
    let replace = json!([{"op": "replace", "path": "/spec", "value": spec}]);
    let patch: Patch<Value> = Patch::Json(serde_json::from_value(replace).unwrap());
    let patched = plant
        .untyped()
        .patch(name, &PatchParams::default(), &patch)
        .await;
    patched.map(drop)
}

async fn set(plant: &Plant, name: &str, spec: &Value) {
    if let Err(error) = try_set(plant, name, spec).await {
        panic!("{spec}: {error}");
    }
}

/// References of [`fields`] that lead somewhere.
async fn more(plant: &Plant) {
    plant.secret("more", &[("k", "v")]).await;
    plant
        .put(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}, "data": {"k": "v"},
        }))
        .await;
}

/// The least that runs, stopped.
fn least() -> Value {
    let mut spec = example("minimal")["spec"].take();
    spec["replicas"] = json!(0);
    spec
}

async fn there_and_back(plant: &Plant, name: &str, changes: Vec<(Value, &'static str)>) {
    plant.create(name, |spec| *spec = least()).await;
    let stored = eventually("a stopped connector has its children", async || {
        let ready = crate::plant::condition(&plant.status_of(name).await, "Ready");
        let rolled = crate::plant::condition(&plant.status_of(name).await, "Progressing");
        if (&*ready, &*rolled) != ("True ScaledToZero", "False RolledOut") {
            return Err(ready);
        }
        Ok(plant.untyped().get(name).await.unwrap().data["spec"].clone())
    })
    .await;
    let before = plant.snapshot_of(name).await;
    for (patch, word) in changes {
        let all = before.text();
        assert!(!all.contains(word), "{word} is there before {patch}: {all}");
        let change = Patch::Merge(json!({ "spec": patch }));
        plant
            .untyped()
            .patch(name, &PatchParams::default(), &change)
            .await
            .unwrap();
        rarely(&format!("{patch} shows in a child"), async || {
            // The text of a ConfigMap is within a text.
            let now = plant.snapshot_of(name).await.text().replace('\\', "");
            if now.contains(word) {
                Ok(())
            } else {
                Err(format!("no {word:?} in {now}"))
            }
        })
        .await;
        set(plant, name, &stored).await;
        rarely(&format!("{patch} leaves no trace"), async || {
            plant.snapshot_of(name).await.differs(&before)
        })
        .await;
    }
}

#[tokio::test]
async fn s1_each_field_is_rendered_and_leaves_no_trace() {
    let Some(plant) = Plant::new("s1").await else {
        return;
    };
    more(&plant).await;
    let operator = plant.operator().await;
    let fields = fields();
    let parts: Vec<_> = fields.chunks(4).map(<[_]>::to_vec).collect();
    let names: Vec<_> = (0..parts.len()).map(|n| format!("{NAME}-{n}")).collect();
    let walks = names
        .iter()
        .zip(parts)
        .map(|(name, part)| there_and_back(&plant, name, part));
    join_all(walks).await;
    quiet(
        &operator.proxy,
        "after each field was changed and changed back",
    )
    .await;
}

/// Specs that the schema takes and the operator must not use.
fn invalid() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"thingworx": {"endpoints": ["http://no.example.com"]}}),
            "False InvalidSpec",
        ),
        (
            json!({"iotHub": {"eventHubs": {"consumerGroup": " "}}}),
            "False InvalidSpec",
        ),
        (
            json!({"pod": {"labels": {"app.kubernetes.io/instance": "other"}}}),
            "False InvalidSpec",
        ),
        (
            json!({"thingworx": {"endpoints": ["wss://a.example.com", "wss://a.example.com"]}}),
            "False InvalidSpec",
        ),
    ]
}

#[tokio::test]
async fn s2_an_invalid_spec_keeps_the_good_pods_and_a_valid_one_heals() {
    let Some(plant) = Plant::new("s2").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    let stored = plant.untyped().get(NAME).await.unwrap().data["spec"].clone();
    let before = plant.snapshot().await;
    let pods = plant.template().await;
    let heals = async || {
        assert_eq!(
            plant.template().await,
            pods,
            "broken: the good pods are kept"
        );
        set(&plant, NAME, &stored).await;
        plant.becomes("a valid spec heals", &before).await;
    };
    for (patch, says) in invalid() {
        plant.change(patch).await;
        plant
            .says("an invalid spec is reported", "ConfigValid", says)
            .await;
        plant
            .says(
                "pods that were good serve on",
                "Available",
                "True MemberBound",
            )
            .await;
        heals().await;
    }
    // Null in the routing group is not dropped by a JSON patch, and means something.
    let mut null = stored.clone();
    null["routingGroup"] = Value::Null;
    set(&plant, NAME, &null).await;
    plant
        .says(
            "a group of null is refused",
            "ConfigValid",
            "False RoutingGroupNull",
        )
        .await;
    heals().await;
    quiet(&operator.proxy, "after an invalid spec was mended").await;
}

#[tokio::test]
async fn s2_a_group_of_null_renders_nothing_however_it_is_written() {
    let Some(plant) = Plant::new("s2-null").await else {
        return;
    };
    let operator = plant.operator().await;
    plant
        .create("created", |spec| spec["routingGroup"] = Value::Null)
        .await;
    let mut object = example("minimal");
    object["metadata"] = json!({"name": "applied"});
    object["spec"]["routingGroup"] = Value::Null;
    let params = PatchParams::apply("somebody");
    let applied = plant
        .untyped()
        .patch("applied", &params, &Patch::Apply(&object))
        .await;
    applied.unwrap();
    for name in ["created", "applied"] {
        eventually(
            &format!("a group of null is refused when {name}"),
            async || {
                let is = crate::plant::condition(&plant.status_of(name).await, "ConfigValid");
                match &*is {
                    "False RoutingGroupNull" => Ok(()),
                    _ => Err(is),
                }
            },
        )
        .await;
    }
    quiet(&operator.proxy, "for a group of null").await;
    for name in ["created", "applied"] {
        let children = plant.objects(name).await;
        assert!(
            children.is_empty(),
            "broken: nothing is rendered for a group of null"
        );
    }
    // Without the field the hub's Thing names the group.
    object["spec"]
        .as_object_mut()
        .unwrap()
        .remove("routingGroup");
    let force = PatchParams::apply("somebody").force();
    let applied = plant
        .untyped()
        .patch("applied", &force, &Patch::Apply(&object))
        .await;
    applied.unwrap();
    eventually("a group that is left out is none of null", async || {
        let is = crate::plant::condition(&plant.status_of("applied").await, "Ready");
        match &*is {
            "True AllMembersBound" => Ok(()),
            _ => Err(is),
        }
    })
    .await;
}

/// Specs of a walk, in the short and in the long form.
const STEPS: (usize, usize) = (20, 200);

#[tokio::test]
async fn s3_a_random_walk_converges_at_each_step() {
    let Some(plant) = Plant::new("s3").await else {
        return;
    };
    more(&plant).await;
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(36);
    println!("S3: SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let operator = plant.operator().await;
    plant.create(NAME, |spec| *spec = least()).await;
    plant
        .says("a stopped connector is ready", "Ready", "True ScaledToZero")
        .await;
    plant
        .says(
            "a stopped connector is made",
            "Progressing",
            "False RolledOut",
        )
        .await;
    settled(&operator.proxy).await;
    let stored = plant.untyped().get(NAME).await.unwrap().data["spec"].clone();
    let before = plant.snapshot().await;
    for step in 0..form(STEPS) {
        let mut spec = stored.clone();
        let mut invalid_words = Vec::new();
        for _ in 0..random.random_range(1..6) {
            let patch = if random.random_bool(0.15) {
                let (patch, says) = invalid().choose(&mut random).unwrap().clone();
                invalid_words.push(says);
                patch
            } else {
                fields().choose(&mut random).unwrap().0.clone()
            };
            json_merge(&mut spec, &patch);
        }
        // Thing and group are free while nothing runs.
        spec["replicas"] = json!(0);
        if try_set(&plant, NAME, &spec).await.is_err() {
            // Two ways at once, for example: the server's rules say no, and nothing changes.
            continue;
        }
        eventually(
            &format!("step {step} of seed {seed} converges: {spec}"),
            async || {
                let found = plant
                    .untyped()
                    .get(NAME)
                    .await
                    .map_err(|error| error.to_string())?;
                let status = plant.status().await;
                let valid = crate::plant::condition(&status, "ConfigValid");
                let ready = crate::plant::condition(&status, "Ready");
                let current = status.observed_generation == found.metadata.generation;
                let said = ready == "True ScaledToZero" || valid == "False InvalidSpec";
                if current && said {
                    Ok(())
                } else {
                    Err(format!("{valid}, {ready}"))
                }
            },
        )
        .await;
    }
    set(&plant, NAME, &stored).await;
    plant
        .becomes(
            &format!("the way back of seed {seed} leaves no trace"),
            &before,
        )
        .await;
    let bugs = operator.metric("reconciles_total", "outcome=\"bug\"").await;
    assert!(bugs == 0.0, "broken: no spec is a fault of the operator");
    quiet(&operator.proxy, "after a random walk").await;
}

fn json_merge(tree: &mut Value, patch: &Value) {
    match (tree, patch) {
        (Value::Object(tree), Value::Object(patch)) => {
            for (key, patch) in patch {
                match patch {
                    Value::Null => drop(tree.remove(key)),
                    patch => json_merge(tree.entry(key.clone()).or_insert(Value::Null), patch),
                }
            }
        }
        (tree, patch) => *tree = patch.clone(),
    }
}

/// Edits of a burst, and most rollouts that they may cause: four until the pause between two has grown to
/// its longest, in seconds, with one to spare for each of them.
const EDITS: u64 = 100;
const ROLLOUTS: u64 = 8;
const PAUSE: u64 = 2;

#[tokio::test]
async fn s4_a_burst_of_edits_is_few_rollouts_and_ends_right() {
    let Some(plant) = Plant::new("s4").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    settled(&operator.proxy).await;
    let before = operator
        .proxy
        .count(|call| call.writes() && call.resource == "deployments");
    let begun = Instant::now();
    for edit in 1..=EDITS {
        let timeout = 10 + edit;
        plant
            .change(json!({"thingworx": {"platformRequestTimeoutSeconds": timeout}}))
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    plant.bound("a burst of edits ends").await;
    settled(&operator.proxy).await;
    let after = operator
        .proxy
        .count(|call| call.writes() && call.resource == "deployments");
    let most = ROLLOUTS + begun.elapsed().as_secs() / PAUSE;
    println!("S4: {} rollouts for {EDITS} edits", after - before);
    let settings = plant
        .children(ChildKind::ConfigMap)
        .list(&Default::default())
        .await
        .unwrap();
    let texts: Vec<_> = settings
        .iter()
        .map(|found| found.data["data"].to_string())
        .collect();
    let last = format!("platformRequestTimeoutSeconds: {}", 10 + EDITS);
    assert!(
        texts.len() == 1 && texts[0].contains(&last),
        "broken: the last edit counts: {texts:?}"
    );
    let rollouts = u64::try_from(after - before).unwrap();
    assert!(
        rollouts <= most,
        "broken: few rollouts: {rollouts}, not {most}"
    );
    quiet(&operator.proxy, "after a burst of edits").await;
}
