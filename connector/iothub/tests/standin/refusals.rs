//! What the hub refuses, in words that say what to do.

use std::time::Duration;

use iothub::{Class, Condition, HubError, MethodCall, PageRequest, Taken, TwinPatch};
use iothub_standin::{fault::Fault, operation::Operation};
use serde_json::Value;

use crate::hub::{Hub, LONG};

#[tokio::test]
async fn a_policy_that_lacks_a_right_is_told_which() {
    let hub = Hub::start().await;
    hub.register("d", None);
    let (service, reader) = (hub.rest("service"), hub.rest("reader"));
    let patch = TwinPatch::default();
    for (refused, right) in [
        (service.create_device("n").await.map(drop), "RegistryWrite"),
        (
            service.delete_device("d", &Condition::Exists).await,
            "RegistryWrite",
        ),
        (service.device("d").await.map(drop), "RegistryRead"),
        (
            service.registry_statistics().await.map(drop),
            "RegistryRead",
        ),
        (reader.create_device("n").await.map(drop), "RegistryWrite"),
        (reader.twin("d", None).await.map(drop), "ServiceConnect"),
        (
            reader
                .patch_twin("d", None, &patch, &Condition::Exists)
                .await
                .map(drop),
            "ServiceConnect",
        ),
        (
            reader
                .query("SELECT * FROM devices", &PageRequest::default())
                .await
                .map(drop),
            "ServiceConnect",
        ),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(
            (error.class(), error.taken()),
            (Class::Denied, Taken::No),
            "{error}"
        );
        assert!(error.to_string().contains(right), "{error}");
    }
}

#[tokio::test]
async fn a_throttle_says_how_long_to_wait_if_the_hub_does() {
    let hub = Hub::start().await;
    let rest = hub.owner();
    for seconds in [Some(7), None] {
        hub.fault(&Fault::ThrottleOperations {
            operation: Operation::Registry,
            seconds: LONG,
            retry_after: seconds,
        });
        let error = rest.create_device("d").await.unwrap_err();
        let retry_after = seconds.map(Duration::from_secs);
        assert_eq!(error, HubError::Throttled { retry_after });
        assert_eq!(
            (error.class(), error.taken()),
            (Class::Throttled, Taken::No)
        );
    }
    let counted = hub.count(Operation::Registry);
    assert_eq!((counted.accepted, counted.refused), (0, 2));
    hub.fault(&Fault::Clear);
    assert!(rest.create_device("d").await.is_ok());
}

#[tokio::test]
async fn a_method_of_a_device_that_is_away_was_not_run() {
    let hub = Hub::start().await;
    hub.register("d", None);
    let call = MethodCall {
        device: "d".into(),
        module: None,
        name: "reboot".into(),
        payload: Value::Null,
        response_timeout: Duration::from_secs(5),
        connect_timeout: Duration::ZERO,
    };
    let error = hub.rest("service").invoke(&call).await.unwrap_err();
    assert_eq!(error, HubError::NotOnline { id: "d".into() });
    assert_eq!(error.taken(), Taken::No);
}
