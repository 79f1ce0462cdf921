//! Twins.

use iothub::{Class, Condition, HubError, Taken, Twin, TwinPatch};
use iothub_standin::{
    hub::{Subscription, ToDevice},
    operation::Operation,
};
use serde_json::{Map, Value, json};

use crate::hub::Hub;

fn object(value: &Value) -> Option<Map<String, Value>> {
    value.as_object().cloned()
}

fn desired(value: &Value) -> TwinPatch {
    TwinPatch {
        desired: object(value),
        ..TwinPatch::default()
    }
}

#[tokio::test]
async fn tags_and_desired_properties_are_merged_and_nulls_delete() {
    let hub = Hub::start().await;
    hub.register("pump-1#", None);
    let rest = hub.rest("service");
    let patch = async |patch: TwinPatch| -> Twin {
        let patched = rest.patch_twin("pump-1#", None, &patch, &Condition::Exists);
        patched.await.unwrap()
    };
    let first = patch(TwinPatch {
        tags: object(&json!({"site": "a", "old": 1})),
        desired: object(&json!({"rate": {"low": 1, "high": 2}})),
    })
    .await;
    assert_eq!(Value::Object(first.tags), json!({"site": "a", "old": 1}));
    let second = patch(TwinPatch {
        tags: object(&json!({"old": null})),
        desired: object(&json!({"rate": {"low": null}})),
    })
    .await;
    assert_eq!(Value::Object(second.tags), json!({"site": "a"}));
    assert_eq!(second.properties.desired["rate"], json!({"high": 2}));
    assert_ne!(first.etag, second.etag);
    let read: Twin = serde_json::from_value(rest.twin("pump-1#", None).await.unwrap()).unwrap();
    assert_eq!((read.etag, read.version), (second.etag, second.version));
}

#[tokio::test]
async fn devices_and_modules_that_listen_are_told_once() {
    let hub = Hub::start().await;
    hub.register("d", None);
    let rest = hub.rest("service");
    for module in [None, Some("m")] {
        let identity = match module {
            None => iothub_standin::identity::Identity::device("d").unwrap(),
            module => hub.register("d", module),
        };
        let mut session = hub.connect(&identity);
        session.subscribe(Subscription::Desired);
        let patch = desired(&json!({"rate": 5}));
        let patched = rest
            .patch_twin("d", module, &patch, &Condition::Exists)
            .await
            .unwrap();
        assert_eq!(patched.module_id.as_deref(), module);
        let Some(ToDevice::Desired { version, patch }) = session.mailbox.recv().await else {
            panic!("not told");
        };
        assert_eq!((version, patch), (2, json!({"rate": 5})));
        assert!(session.mailbox.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_twin_that_somebody_else_has_changed_is_an_error_of_its_own() {
    let hub = Hub::start().await;
    hub.register("d", None);
    let rest = hub.owner();
    let change = async |value: i32, condition: Condition| {
        let patch = desired(&json!({ "rate": value }));
        rest.patch_twin("d", None, &patch, &condition).await
    };
    let read = change(1, Condition::Exists).await.unwrap();
    let seen = Condition::Unchanged(read.etag);
    change(2, seen.clone()).await.unwrap();
    let error = change(3, seen).await.unwrap_err();
    assert_eq!(error, HubError::Changed { what: "d".into() });
    assert_eq!(
        (error.class(), error.taken()),
        (Class::Transient, Taken::No)
    );
    assert!(error.to_string().contains("read it again"), "{error}");
    let now: Twin = serde_json::from_value(rest.twin("d", None).await.unwrap()).unwrap();
    assert_eq!(now.properties.desired["rate"], 2);
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_made_once_and_said_to_be_unknown() {
    let hub = Hub::start().await;
    let identity = hub.register("d", None);
    hub.lose(Operation::TwinUpdates);
    let patch = desired(&json!({"rate": 1}));
    let rest = hub.owner();
    let patched = rest.patch_twin("d", None, &patch, &Condition::Exists);
    let error = patched.await.unwrap_err();
    assert!(matches!(error, HubError::OutcomeUnknown { .. }), "{error}");
    assert_eq!(error.taken(), Taken::Unknown);
    let counted = hub.count(Operation::TwinUpdates);
    assert_eq!((counted.accepted, counted.lost), (1, 1));
    assert_eq!(hub.inside().twin(&identity).unwrap().revision, 1);
}

#[tokio::test]
async fn what_the_hub_does_not_take_is_refused_whole() {
    let hub = Hub::start().await;
    hub.register("d", None);
    let large = (0..10).map(|n| (format!("p{n}"), "x".repeat(4096).into()));
    let large: Map<String, Value> = large.collect();
    let patch = TwinPatch {
        tags: object(&json!({"site": "a"})),
        desired: Some(large),
    };
    let rest = hub.owner();
    let change = async |patch: &TwinPatch| {
        let changed = rest.patch_twin("d", None, patch, &Condition::Exists).await;
        let error = changed.unwrap_err();
        assert_eq!((error.class(), error.taken()), (Class::User, Taken::No));
        error
    };
    let error = change(&patch).await;
    assert!(matches!(error, HubError::TooLarge { .. }), "{error}");
    let error = change(&desired(&json!({"a.b": 1}))).await;
    assert!(matches!(error, HubError::Invalid { .. }), "{error}");
    assert_eq!(rest.twin("d", None).await.unwrap()["tags"], json!({}));
}

#[tokio::test]
async fn no_device_or_module_is_said_so() {
    let hub = Hub::start().await;
    hub.register("d", None);
    let patch = desired(&json!({}));
    for (device, module, id) in [("ghost", None, "ghost"), ("d", Some("ghost"), "d/ghost")] {
        let patched = hub
            .owner()
            .patch_twin(device, module, &patch, &Condition::Exists)
            .await;
        assert_eq!(patched, Err(HubError::DeviceNotFound { id: id.into() }));
    }
}
