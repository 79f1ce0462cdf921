//! The definition that users install is the one that the types say, and the examples fit it. Written anew
//! with `BLESS=1`.

// Clippy lets tests panic, but not the functions that tests share.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod golden;

use golden::{golden, resource, root};
use operator::api::{CheckpointStore, ValidationError, crd, validate};

#[test]
fn c3_the_crd_in_the_repository_and_in_the_chart_is_what_the_types_say() {
    let text = crd::yaml().unwrap();
    let name = "azureiothubconnectors.iot-connectors.dev.yaml";
    golden(&format!("crds/{name}"), &text);
    golden(
        &format!("charts/azure-iot-hub-connector/files/{name}"),
        &text,
    );
}

#[test]
fn every_example_is_valid() {
    let folder = root().join("crds/examples");
    let mut examples = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let resource = resource(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        validate(&resource.spec).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        examples += 1;
    }
    assert!(examples >= 2);
}

#[test]
fn c3_what_each_release_stored_is_still_read() {
    let mut releases = 0;
    for release in std::fs::read_dir(root().join("tests/released")).unwrap() {
        let path = release.unwrap().path().join("resource.json");
        // Beside the releases lies what records them.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let resource = resource(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        validate(&resource.spec).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        releases += 1;
    }
    assert!(releases >= 1);
}

#[test]
fn a_routing_group_of_null_or_nothing_is_refused_and_one_left_out_is_not() {
    let with = |group: &str| {
        let text = std::fs::read_to_string(root().join("crds/examples/minimal.yaml")).unwrap();
        let field = format!("  hubThingName: FactoryHub\n{group}");
        let text = text.replace("  hubThingName: FactoryHub\n", &field);
        let resource = resource(&text).unwrap();
        validate(&resource.spec).map(|spec| spec.routing_group.map(|group| group.to_string()))
    };
    assert_eq!(with(""), Ok(None));
    assert_eq!(with("  routingGroup: A\n"), Ok(Some("A".into())));
    for null in ["  routingGroup: null\n", "  routingGroup:\n"] {
        assert_eq!(with(null), Err(ValidationError::RoutingGroupNull));
    }
    for empty in ["  routingGroup: \"\"\n", "  routingGroup: \" \"\n"] {
        let refused = with(empty).unwrap_err();
        assert!(refused.to_string().contains("routingGroup"), "{refused}");
    }
}

#[test]
fn dead_letters_of_pods_are_blobs() {
    let with = |letters: &str| {
        let text = std::fs::read_to_string(root().join("crds/examples/minimal.yaml")).unwrap();
        let field = format!("  iotHub:\n    deadLetter: {letters}\n");
        let text = text.replace("  iotHub:\n", &field);
        validate(&resource(&text).unwrap().spec).map_err(|error| error.to_string())
    };
    let blob = |container: &str| {
        format!(
            "{{azureBlob: {{container: {container}, connectionString: \
             {{secretKeyRef: {{name: s, key: k}}}}}}}}"
        )
    };
    let spec = with(&blob("letters")).unwrap();
    let letters = spec.iot_hub.dead_letter.unwrap();
    assert_eq!(letters.blobs().unwrap().container, "letters");
    for (wrong, says) in [
        (
            blob("Letters"),
            "spec.iotHub.deadLetter.azureBlob.container is not right",
        ),
        (
            "{file: {path: /tmp/letters}}".to_owned(),
            "spec.iotHub.deadLetter.file is for a single process",
        ),
    ] {
        let error = with(&wrong).unwrap_err();
        assert!(error.contains(says), "{wrong}: {error}");
    }
    assert!(
        !crd::yaml().unwrap().contains("single process"),
        "the resource has no file"
    );
}

#[test]
fn checkpoints_have_one_store_and_none_given_is_kubernetes() {
    let with = |checkpoints: &str| {
        let text = std::fs::read_to_string(root().join("crds/examples/minimal.yaml")).unwrap();
        let field = format!("  hubThingName: FactoryHub\n{checkpoints}");
        let text = text.replace("  hubThingName: FactoryHub\n", &field);
        validate(&resource(&text).unwrap().spec)
            .map(|spec| spec.checkpoints)
            .map_err(|error| error.to_string())
    };
    let blob = |container: &str| {
        format!(
            "azureBlob: {{container: {container}, connectionString: \
             {{secretKeyRef: {{name: s, key: k}}}}}}"
        )
    };
    for kubernetes in ["", "  checkpoints: {kubernetes: {}}\n"] {
        assert_eq!(with(kubernetes), Ok(CheckpointStore::Kubernetes));
    }
    let blobs = with(&format!("  checkpoints: {{{}}}\n", blob("marks"))).unwrap();
    assert_eq!(blobs.blobs().unwrap().container, "marks");
    for (wrong, says) in [
        (
            "{}".to_owned(),
            "spec.checkpoints is not right: names no store",
        ),
        (
            format!("{{kubernetes: {{}}, {}}}", blob("marks")),
            "spec.checkpoints is not right: names two",
        ),
        (
            format!("{{{}}}", blob("Marks")),
            "spec.checkpoints.azureBlob.container is not right",
        ),
    ] {
        let error = with(&format!("  checkpoints: {wrong}\n")).unwrap_err();
        assert!(error.contains(says), "{wrong}: {error}");
    }
}
