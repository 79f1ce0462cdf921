//! What is rendered for the examples, object by object. Written anew with `BLESS=1`.

// Clippy lets tests panic, but not the functions that tests share.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod golden;

use golden::{golden, resource, root};
use operator::{
    api::{PullPolicy, Validated, validate},
    desired::{Child, ChildKind, Defaults, Owner, desired, settings},
    refs::{SecretDigest, references},
};

fn spec(example: &str) -> (Owner, Validated) {
    let path = root().join(format!("crds/examples/{example}.yaml"));
    let text = std::fs::read_to_string(path).unwrap();
    let resource = resource(&text).unwrap();
    let owner = Owner {
        namespace: "plant".into(),
        name: resource.metadata.name.unwrap(),
        uid: "00000000-0000-0000-0000-000000000001".into(),
    };
    (owner, validate(&resource.spec).unwrap())
}

fn rendered(owner: &Owner, spec: &Validated, secret: &[u8]) -> Vec<Child> {
    let defaults = Defaults {
        image: "registry.example.com/azure-iot-hub-connector:1".into(),
        pull_policy: PullPolicy::IfNotPresent,
    };
    let references = references(&spec.thingworx, &spec.iot_hub, spec.checkpoints.blobs());
    let values = references.iter().map(|reference| (reference, secret));
    let digest = SecretDigest::of(&owner.uid, values);
    desired(owner, spec, &digest, &defaults, None).unwrap()
}

fn one(children: &[Child], kind: ChildKind) -> &Child {
    children.iter().find(|child| child.kind == kind).unwrap()
}

#[test]
fn the_examples_render_what_they_always_did() {
    for example in ["minimal", "full", "azure-blob"] {
        let (owner, spec) = spec(example);
        let objects: Vec<String> = rendered(&owner, &spec, b"secret")
            .iter()
            .map(|child| serde_yaml::to_string(&child.object).unwrap())
            .collect();
        golden(
            &format!("operator/tests/golden/{example}.yaml"),
            &objects.join("---\n"),
        );
    }
}

/// A value that is mounted and not referred to would neither be checked nor roll the pods when it changes.
#[test]
fn what_is_mounted_is_what_is_referred_to() {
    for example in ["minimal", "full", "azure-blob"] {
        let (owner, spec) = spec(example);
        let children = rendered(&owner, &spec, b"secret");
        let deployment = &one(&children, ChildKind::Deployment).object;
        let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array();
        let sources = volumes.unwrap().iter().filter_map(|volume| {
            let sources = volume["projected"]["sources"].as_array()?;
            Some(sources.clone())
        });
        let mut mounted: Vec<(String, String)> = sources
            .flatten()
            .flat_map(|source| {
                let source = [&source["secret"], &source["configMap"]]
                    .into_iter()
                    .find(|source| source.is_object())
                    .unwrap();
                let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
                let items = source["items"].as_array().unwrap().iter();
                let items: Vec<_> = items
                    .map(|item| (text(&source["name"]), text(&item["key"])))
                    .collect();
                items
            })
            .collect();
        let references = references(&spec.thingworx, &spec.iot_hub, spec.checkpoints.blobs());
        let mut referred: Vec<_> = references
            .into_iter()
            .map(|reference| (reference.name, reference.key))
            .collect();
        mounted.sort();
        referred.sort();
        assert_eq!(mounted, referred, "{example}");
    }
}

/// A pod finds out by the same digest whether it has the secrets that it was rolled out with.
#[test]
fn a_pod_digests_the_same_fields_in_the_same_order() {
    for example in ["minimal", "full", "azure-blob"] {
        let (owner, spec) = spec(example);
        let settings = settings(&owner, &spec);
        let found: Vec<_> = settings.secrets().iter().map(|(field, _)| *field).collect();
        let references = references(&spec.thingworx, &spec.iot_hub, spec.checkpoints.blobs());
        let referred: Vec<_> = references.iter().map(|found| found.field).collect();
        assert_eq!(found, referred, "{example}");
    }
}

#[test]
fn settings_never_change_but_get_another_name_and_hold_no_secret() {
    let (owner, mut spec) = spec("minimal");
    let before = rendered(&owner, &spec, b"a-very-secret-value");
    let settings = one(&before, ChildKind::ConfigMap).clone();
    assert_eq!(settings.object["immutable"], true);
    assert_eq!(
        rendered(&owner, &spec, b"a-very-secret-value"),
        before,
        "equal input gives equal bytes"
    );
    for child in &before {
        assert!(!child.object.to_string().contains("a-very-secret-value"));
    }

    spec.thingworx.pipes += 1;
    let after = rendered(&owner, &spec, b"a-very-secret-value");
    let changed = one(&after, ChildKind::ConfigMap);
    assert_ne!(changed.name, settings.name);
    let deployment = one(&after, ChildKind::Deployment).object.to_string();
    assert!(deployment.contains(&changed.name) && !deployment.contains(&settings.name));
}

#[test]
fn a_changed_secret_rolls_the_pods_and_a_changed_number_does_not() {
    let (owner, mut spec) = spec("minimal");
    let template = |spec: &Validated, secret: &[u8]| {
        let children = rendered(&owner, spec, secret);
        one(&children, ChildKind::Deployment).object["spec"]["template"].clone()
    };
    let before = template(&spec, b"one");
    assert_ne!(template(&spec, b"two"), before);
    spec.replicas += 1;
    assert_eq!(template(&spec, b"one"), before);
}

#[test]
fn a_mapping_that_does_not_compile_is_refused_with_its_place() {
    let text = std::fs::read_to_string(root().join("crds/examples/full.yaml")).unwrap();
    for (program, expected) in [
        (
            "{t: .temp",
            "iotHub.messages.mapping is not right: line 1, column 10: closing brace",
        ),
        ("env", "line 1, column 1: no filter env/0"),
        (" ", "is empty"),
    ] {
        let mut spec = resource(&text).unwrap().spec;
        spec.iot_hub.messages.mapping = Some(program.to_owned());
        let told = validate(&spec).unwrap_err().to_string();
        assert!(told.contains(expected), "{program}: {told}");
    }
}
