//! Whatever is stored: no panic, and what is rendered is taken.

use kube::api::PostParams;
use operator::{
    api::{AzureIotHubConnectorSpec, PullPolicy, validate},
    desired::{Child, Defaults, Owner, desired},
    refs::{SecretDigest, references},
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::plant::{Plant, example};

/// Any JSON that is small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[a-z:/.]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{1,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn paths(tree: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match tree {
        Value::Object(map) => {
            for (key, tree) in map {
                paths(tree, &format!("{path}/{}", key.replace('/', "~1")), found);
            }
        }
        Value::Array(list) => {
            for (index, tree) in list.iter().enumerate() {
                paths(tree, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// A spec with some of its fields, or parts of it, replaced by anything or taken from another example.
fn any_spec() -> impl Strategy<Value = Value> {
    let examples: Vec<Value> = ["full", "azure-blob", "minimal"]
        .map(|name| example(name)["spec"].take())
        .into();
    let edit = (any::<prop::sample::Index>(), any_json());
    (
        prop::sample::select(examples),
        prop::collection::vec(edit, 0..4),
    )
        .prop_map(|(mut spec, edits)| {
            for (at, value) in edits {
                let mut all = Vec::new();
                paths(&spec, "", &mut all);
                // Not the whole, which would leave little to render.
                let path = &all[1 + at.index(all.len() - 1)];
                if let Some(place) = spec.pointer_mut(path) {
                    *place = value;
                }
            }
            spec
        })
}

/// What is rendered for a spec, if it can be read and used.
fn rendered(namespace: &str, spec: &Value) -> Option<Vec<Child>> {
    let spec: AzureIotHubConnectorSpec = serde_json::from_value(spec.clone()).ok()?;
    let spec = validate(&spec).ok()?;
    let owner = Owner {
        namespace: namespace.into(),
        name: "fuzzed".into(),
        uid: "00000000-0000-0000-0000-000000000001".into(),
    };
    let references = references(&spec.thingworx, &spec.iot_hub, spec.checkpoints.blobs());
    let digest = SecretDigest::of(
        &owner.uid,
        references.iter().map(|found| (found, &b"x"[..])),
    );
    let defaults = Defaults {
        image: "connector:1".into(),
        pull_policy: PullPolicy::IfNotPresent,
    };
    Some(desired(&owner, &spec, &digest, &defaults, None).unwrap())
}

/// Cases without a server, and those of which the server is asked.
const CASES: u32 = 3000;
const SAMPLE: usize = 20;

#[tokio::test]
async fn f1_no_spec_makes_the_renderer_panic_and_what_is_rendered_is_taken() {
    // The same cases each time: a fault that is found must be found again.
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, random);
    let usable = std::cell::RefCell::new(Vec::new());
    runner
        .run(&any_spec(), |spec| {
            if rendered("f1", &spec).is_some() {
                usable.borrow_mut().push(spec);
            }
            Ok(())
        })
        .unwrap();
    let usable = usable.into_inner();
    println!("F1: {} of {CASES} specs can be used", usable.len());
    let Some(plant) = Plant::new("f1").await else {
        return;
    };
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut asked = 0;
    for spec in usable {
        let mut object = example("minimal");
        object["spec"] = spec.clone();
        object["metadata"] = json!({"name": "fuzzed"});
        let stored = plant
            .untyped()
            .create(&dry, &serde_json::from_value(object).unwrap())
            .await;
        // What the schema refuses is never rendered.
        if stored.is_err() {
            continue;
        }
        asked += 1;
        for child in rendered("f1", &spec).unwrap() {
            let object = serde_json::from_value(child.object).unwrap();
            let taken = plant.children(child.kind).create(&dry, &object).await;
            if let Err(error) = taken {
                panic!(
                    "broken: what is rendered for {spec} is taken: {}: {error}",
                    child.kind.as_str()
                );
            }
        }
        if asked == SAMPLE {
            break;
        }
    }
    assert_eq!(asked, SAMPLE, "too few of the specs can be stored");
}
