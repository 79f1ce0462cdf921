use std::sync::LazyLock;

use connector_config::{MemberReport, Phase, ReportClass};
use serde_json::json;

use super::*;
use crate::{
    api::{AzureIotHubConnector, validate},
    pod_trouble::PodTrouble,
    refs::{RefKind, Reference},
};

fn owner() -> Owner {
    Owner {
        namespace: "plant".into(),
        name: "factory".into(),
        uid: "uid-1".into(),
    }
}

fn spec(replicas: i32, group: Option<&str>) -> Validated {
    let text = include_str!("../../../crds/examples/minimal.yaml");
    let tree: serde_json::Value = serde_yaml::from_str(text).unwrap();
    let mut resource: AzureIotHubConnector = serde_json::from_value(tree).unwrap();
    resource.spec.replicas = replicas;
    if let Some(group) = group {
        resource.spec.routing_group = crate::api::Asked::Given(group.into());
    }
    validate(&resource.spec).unwrap()
}

fn report(group: &str) -> MemberReport {
    MemberReport {
        phase: Phase::Running,
        group: Some(group.into()),
        nodes_bound: 1,
        nodes: 1,
        partitions: vec!["0".into(), "1".into()],
        partitions_total: Some(4),
        ..MemberReport::new("AzureIot-plant-pod-1")
    }
}

/// A Deployment of which so many pods of so many are there and ready.
fn observed(ready: i32, of: i32, members: &[(&str, MemberReport)]) -> Observed {
    let deployment = json!({
        "metadata": { "generation": 1 },
        "spec": { "replicas": of, "selector": {}, "template": {} },
        "status": {
            "observedGeneration": 1, "replicas": ready, "updatedReplicas": ready,
            "readyReplicas": ready, "availableReplicas": ready
        }
    });
    Observed {
        deployment: serde_json::from_value(deployment).ok(),
        members: members
            .iter()
            .map(|(pod, report)| ((*pod).to_owned(), report.clone()))
            .collect(),
        ..Observed::default()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn unpaused(owner: &Owner) -> Subject<'_> {
    static OPERATOR: LazyLock<OperatorId> = LazyLock::new(|| OperatorId::new("plant", "operator"));
    Subject {
        operator: &OPERATOR,
        owner,
        generation: Some(1),
        paused: false,
    }
}

fn first(progress: Progress<'_>, observed: &Observed) -> AzureIotHubConnectorStatus {
    let none = AzureIotHubConnectorStatus::default();
    status(unpaused(&owner()), progress, observed, &none, at(100))
}

fn told(status: &AzureIotHubConnectorStatus, kind: ConditionType) -> (&str, &str) {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind.as_str())
        .unwrap();
    (&condition.status, &condition.reason)
}

#[test]
fn dead_letters_that_cannot_be_stored_are_told_and_keep_nobody_from_being_ready() {
    let spec = spec(1, None);
    let ill = MemberReport {
        class: Some(ReportClass::Denied),
        reason: MemberReport::DEAD_LETTER.into(),
        message: "dead letters are lost: denied".into(),
        ..report("G")
    };
    let status = first(
        Progress::Applied(&spec),
        &observed(1, 1, &[("pod-1", ill.clone())]),
    );
    assert_eq!(
        told(&status, ConditionType::Ready),
        ("True", "AllMembersBound")
    );
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
    let message = &ready.unwrap().message;
    assert!(
        message.contains("pod pod-1: dead letters are lost"),
        "{message}"
    );

    let connecting = MemberReport {
        phase: Phase::Connecting,
        nodes_bound: 0,
        ..ill
    };
    let status = first(
        Progress::Applied(&spec),
        &observed(0, 1, &[("pod-1", connecting)]),
    );
    assert_eq!(told(&status, ConditionType::Ready), ("False", "RollingOut"));
}

#[test]
fn ready_when_every_wanted_pod_is_bound() {
    let spec = spec(2, None);
    let bound = [("pod-1", report("G")), ("pod-2", report("G"))];
    let status = first(Progress::Applied(&spec), &observed(2, 2, &bound));
    assert_eq!(
        told(&status, ConditionType::Ready),
        ("True", "AllMembersBound")
    );
    assert_eq!(told(&status, ConditionType::ConfigValid), ("True", "Valid"));
    assert_eq!(
        told(&status, ConditionType::ReferencesResolved),
        ("True", "Resolved")
    );
    assert_eq!(
        told(&status, ConditionType::Available),
        ("True", "MemberBound")
    );
    assert_eq!(status.routing_group.as_deref(), Some("G"));
    assert_eq!((status.replicas, status.bound_members), (Some(2), Some(2)));
    let partitions = status.partitions.unwrap();
    assert_eq!(
        partitions.summary.as_deref(),
        Some("2/4"),
        "each counts once"
    );

    let half = first(Progress::Applied(&spec), &observed(1, 2, &bound[..1]));
    assert_eq!(told(&half, ConditionType::Ready), ("False", "RollingOut"));
    assert_eq!(
        told(&half, ConditionType::Available),
        ("True", "MemberBound")
    );
}

#[test]
fn stopped_is_ready() {
    let spec = spec(0, None);
    let status = first(Progress::Applied(&spec), &observed(0, 0, &[]));
    assert_eq!(
        told(&status, ConditionType::Ready),
        ("True", "ScaledToZero")
    );
    assert_eq!(
        told(&status, ConditionType::Available),
        ("False", "ScaledToZero")
    );
    assert_eq!(
        status.routing_group, None,
        "the next start resolves it anew"
    );
}

#[test]
fn a_null_routing_group_is_told_while_the_pods_go_on() {
    let bound = [("pod-1", report("G"))];
    let error = ValidationError::RoutingGroupNull;
    let status = first(Progress::Invalid(&error), &observed(1, 1, &bound));
    assert_eq!(
        told(&status, ConditionType::Ready),
        ("False", "RoutingGroupNull")
    );
    assert_eq!(
        told(&status, ConditionType::ConfigValid),
        ("False", "RoutingGroupNull")
    );
    assert_eq!(
        told(&status, ConditionType::ReferencesResolved),
        ("Unknown", "NotEvaluated")
    );
    assert_eq!(
        told(&status, ConditionType::Available),
        ("True", "MemberBound")
    );
}

#[test]
fn a_missing_secret_is_told_by_name_and_remembered() {
    let spec = spec(1, None);
    let error = RefError::NotFound(Reference {
        field: "thingworx.appKey",
        kind: RefKind::Secret,
        name: "factory-thingworx".into(),
        key: "appKey".into(),
    });
    let broken = first(Progress::Unresolved(&spec, &error), &observed(1, 1, &[]));
    assert_eq!(
        told(&broken, ConditionType::Ready),
        ("False", "SecretNotFound")
    );
    assert_eq!(
        told(&broken, ConditionType::ReferencesResolved),
        ("False", "SecretNotFound")
    );
    assert_eq!(told(&broken, ConditionType::ConfigValid), ("True", "Valid"));
    let last = broken.last_error.clone().unwrap();
    assert!(last.message.unwrap().contains("factory-thingworx"));

    let bound = observed(1, 1, &[("pod-1", report("G"))]);
    let mended = status(
        unpaused(&owner()),
        Progress::Applied(&spec),
        &bound,
        &broken,
        at(200),
    );
    assert_eq!(
        told(&mended, ConditionType::Ready),
        ("True", "AllMembersBound")
    );
    assert_eq!(
        mended.last_error, broken.last_error,
        "kept after it has passed"
    );
    let again = status(
        unpaused(&owner()),
        Progress::Applied(&spec),
        &bound,
        &mended,
        at(300),
    );
    assert_eq!(again, mended, "nothing new is nothing to write");
}

#[test]
fn what_a_pod_says_is_told_before_what_kubernetes_says() {
    let spec = spec(1, None);
    let mut denied = report("G");
    denied.class = Some(ReportClass::Denied);
    denied.reason = "PlatformDenied".into();
    denied.message = "login refused".into();
    let mut seen = observed(0, 1, &[("pod-1", denied)]);
    let trouble = PodTrouble {
        reason: Reason::Crashing,
        message: "again and again".into(),
    };
    seen.pod_troubles.insert("pod-1".into(), trouble);
    let status = first(Progress::Applied(&spec), &seen);
    assert_eq!(
        told(&status, ConditionType::Ready),
        ("False", "PlatformDenied")
    );
    seen.members.clear();
    let status = first(Progress::Applied(&spec), &seen);
    assert_eq!(told(&status, ConditionType::Ready), ("False", "Crashing"));
}

#[test]
fn pods_of_two_groups_are_a_mismatch() {
    let spec = spec(2, Some("A"));
    let members = [("pod-1", report("A")), ("pod-2", report("B"))];
    let status = first(Progress::Applied(&spec), &observed(2, 2, &members));
    assert_eq!(
        told(&status, ConditionType::Ready),
        ("False", "RoutingGroupMismatch")
    );
    assert_eq!(status.routing_group.as_deref(), Some("A"));
}
