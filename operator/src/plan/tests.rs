use std::sync::Arc;

use connector_config::annotation;
use serde_json::{Value, json};

use super::*;
use crate::packed::Packed;

fn owner() -> Owner {
    Owner {
        namespace: "plant".into(),
        name: "factory".into(),
        uid: "uid-1".into(),
    }
}

fn child(kind: ChildKind, name: &str, spec: &Value) -> Child {
    let hash = "h1".to_owned();
    let object = json!({
        "apiVersion": kind.resource().api_version,
        "kind": kind.as_str(),
        "metadata": {
            "name": name, "namespace": "plant",
            "annotations": { annotation::APPLIED_HASH: hash },
            "ownerReferences": [{
                "apiVersion": "iot-connectors.dev/v1alpha1", "kind": "AzureIotHubConnector",
                "name": "factory", "uid": "uid-1", "controller": true
            }]
        },
        "spec": spec
    });
    Child {
        kind,
        name: name.to_owned(),
        object,
        hash,
    }
}

fn children() -> Vec<Child> {
    let replicas = json!({ "replicas": 2, "selector": {}, "template": {} });
    vec![
        child(ChildKind::ServiceAccount, "factory-connector", &json!({})),
        child(ChildKind::ConfigMap, "factory-connector-new", &json!({})),
        child(ChildKind::Deployment, "factory-connector", &replicas),
    ]
}

/// The server has these objects, changed by `edit`.
fn observed(children: &[Child], edit: impl Fn(ChildKind, &mut Value)) -> Observed {
    let mut observed = Observed::default();
    for child in children {
        let mut object = child.object.clone();
        object["metadata"]["uid"] = json!(format!("uid-of-{}", child.name));
        // Somebody else's fields are not ours to mind.
        object["metadata"]["labels"] = json!({ "team": "blue" });
        edit(child.kind, &mut object);
        let live: Packed = serde_json::from_value(object).unwrap();
        if child.kind == ChildKind::Deployment {
            observed.deployment = live.unpack();
        }
        observed
            .children
            .insert((child.kind, child.name.clone()), Arc::new(live));
    }
    observed
}

fn planned<'a>(children: &'a [Child], observed: &Observed) -> Result<Vec<Action<'a>>, Conflict> {
    plan(&owner(), children, observed, &mut Known::default())
}

#[test]
fn what_is_missing_is_made_in_order_and_what_is_right_is_left_alone() {
    let children = children();
    let made = planned(&children, &Observed::default()).unwrap();
    assert_eq!(
        made,
        children.iter().map(Action::Create).collect::<Vec<_>>()
    );
    assert_eq!(
        planned(&children, &observed(&children, |_, _| {})),
        Ok(vec![])
    );
}

#[test]
fn a_change_by_somebody_else_is_undone_unless_the_server_made_it() {
    let children = children();
    let drifted = observed(&children, |kind, object| {
        if kind == ChildKind::Deployment {
            object["spec"]["replicas"] = json!(7);
        }
    });
    let deployment = &children[2];
    let update = Action::Update {
        child: deployment,
        uid: "uid-of-factory-connector".into(),
        replaces_pods: false,
    };
    assert_eq!(planned(&children, &drifted), Ok(vec![update]));

    let key = (ChildKind::Deployment, deployment.name.clone());
    let mut known = Known::default();
    known.note(deployment, &drifted.children[&key].unpack().unwrap());
    let again = plan(&owner(), &children, &drifted, &mut known);
    assert_eq!(again, Ok(vec![]), "the server's answer to our own apply");
}

#[test]
fn what_was_looked_at_is_looked_at_again_only_in_another_version() {
    let children = children();
    let at = |version: &str, replicas: i32| {
        observed(&children, |kind, object| {
            object["metadata"]["resourceVersion"] = json!(version);
            if kind == ChildKind::Deployment {
                object["spec"]["replicas"] = json!(replicas);
            }
        })
    };
    let mut known = Known::default();
    let mut planned = |children: &[Child], seen: &Observed| {
        plan(&owner(), children, seen, &mut known).unwrap().len()
    };
    assert_eq!(planned(&children, &at("7", 2)), 0);
    // No server does this; it shows that nobody looked.
    assert_eq!(planned(&children, &at("7", 3)), 0);
    assert_eq!(planned(&children, &at("8", 3)), 1, "another version");
    assert_eq!(
        planned(&children, &at("8", 3)),
        1,
        "still not as it should be"
    );
    let mut wanted = children.clone();
    wanted[2].hash = "h2".into();
    assert_eq!(planned(&wanted, &at("7", 2)), 1, "something else is wanted");
}

#[test]
fn nothing_is_written_if_one_object_belongs_to_another() {
    let children = children();
    let with_owner = |kind: &str, name: &str| {
        let owner = json!([{
            "apiVersion": "v1", "kind": kind, "name": name, "uid": "other", "controller": true
        }]);
        observed(&children, |kind, object| {
            if kind == ChildKind::ServiceAccount {
                object["metadata"]["ownerReferences"] = owner.clone();
            }
        })
    };
    let foreign = planned(&children, &with_owner("Thing", "theirs")).unwrap_err();
    assert!(
        matches!(&foreign, Conflict::Foreign { owner: Some(owner), .. } if owner == "Thing theirs")
    );
    let namesake = with_owner("AzureIotHubConnector", "factory");
    let going = planned(&children, &namesake).unwrap_err();
    assert!(matches!(going, Conflict::Going { .. }), "{going}");
}

#[test]
fn settings_go_when_no_pod_mounts_them_and_nothing_else_is_to_be_done() {
    let children = children();
    let mut all = children.clone();
    all.push(child(
        ChildKind::ConfigMap,
        "factory-connector-old",
        &json!({}),
    ));
    let mut seen = observed(&all, |_, _| {});
    let delete = Action::DeleteSettings {
        name: "factory-connector-old".into(),
        uid: "uid-of-factory-connector-old".into(),
    };
    assert_eq!(planned(&children, &seen), Ok(vec![delete]));
    seen.settings_in_use.insert("factory-connector-old".into());
    assert_eq!(
        planned(&children, &seen),
        Ok(vec![]),
        "an old pod may start again"
    );
    seen.settings_in_use.clear();
    let drifted = observed(&all, |kind, object| {
        if kind == ChildKind::Deployment {
            object["spec"]["replicas"] = json!(7);
        }
    });
    let first = planned(&children, &drifted).unwrap();
    assert!(matches!(first[..], [Action::Update { .. }]), "{first:?}");
}

#[test]
fn a_broken_connector_can_be_scaled_and_stopped_but_not_started() {
    let at = |replicas: i32| {
        observed(&children(), |kind, object| {
            if kind == ChildKind::Deployment {
                object["spec"]["replicas"] = json!(replicas);
            }
        })
    };
    let scale = |replicas| {
        Some(Action::Scale {
            name: "factory-connector".into(),
            uid: "uid-of-factory-connector".into(),
            replicas,
        })
    };
    assert_eq!(scale_only(&at(2), 5), scale(5));
    assert_eq!(scale_only(&at(2), 1), scale(1));
    assert_eq!(scale_only(&at(2), 0), scale(0));
    assert_eq!(
        scale_only(&at(2), 2),
        None,
        "nothing is written for nothing"
    );
    assert_eq!(
        scale_only(&at(0), 3),
        None,
        "the hub Thing may be another by now"
    );
    assert_eq!(scale_only(&at(2), -1), None, "what cannot be");
    assert_eq!(scale_only(&Observed::default(), 3), None, "never rendered");
}

#[test]
fn pods_are_replaced_only_by_another_template_and_only_where_some_run() {
    let before = children();
    let mut after = before.clone();
    after[2].hash = "h2".into();
    let replaces = |after: &[Child], edit: &dyn Fn(&mut Value)| {
        let observed = observed(&before, |kind, object| {
            if kind == ChildKind::Deployment {
                edit(object);
            }
        });
        let actions = planned(after, &observed).unwrap();
        let replaces = actions.iter().any(Action::replaces_pods);
        (replaces, without_replacing(actions, &observed, 2).len())
    };
    after[2].object["spec"]["replicas"] = json!(3);
    assert_eq!(replaces(&after, &|_| {}), (false, 1), "scaling");
    after[2].object["spec"]["replicas"] = json!(2);
    after[2].object["spec"]["template"] = json!({ "spec": "new" });
    assert_eq!(replaces(&after, &|_| {}), (true, 0), "another template");
    let scaled = |object: &mut Value| object["spec"]["replicas"] = json!(1);
    assert_eq!(replaces(&after, &scaled), (true, 1), "scaling goes on");
    let stopped = |object: &mut Value| object["spec"]["replicas"] = json!(0);
    assert!(!replaces(&after, &stopped).0, "nothing runs");
    after[2].object["spec"]["replicas"] = json!(0);
    assert!(!replaces(&after, &|_| {}).0, "nothing will run");
}
