//! What the hub refuses, in words that say what to do.

use std::time::{Duration, Instant};

use iothub::{
    Class, Condition, HubError, JobId, JobSchedule, MethodCall, PageRequest, Taken, TwinPatch,
};
use iothub_standin::{
    fault::Fault,
    hub::{Subscription, ToDevice},
    meter::{Limits, Tier},
    operation::Operation,
};
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
async fn a_token_that_the_hub_refuses_has_done_nothing() {
    let hub = Hub::start().await;
    let device = hub.register("d", None);
    hub.fault(&Fault::RejectTokens { seconds: LONG });
    let rest = hub.owner();
    let patch = TwinPatch::default();
    let schedule = JobSchedule {
        id: JobId::new("j").unwrap(),
        devices: "*".into(),
        start: None,
        max_execution_time: Duration::from_secs(60),
    };
    for refused in [
        rest.create_device("n").await.map(drop),
        rest.delete_device("d", &Condition::Exists).await,
        rest.patch_twin("d", None, &patch, &Condition::Exists)
            .await
            .map(drop),
        rest.invoke(call()).await.map(drop),
        rest.schedule_twin_update(&schedule, &patch).await.map(drop),
        rest.cancel_job(&schedule.id).await.map(drop),
        rest.job(&schedule.id).await.map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!((error.class(), error.taken()), (Class::Denied, Taken::No));
        assert!(error.to_string().contains("check the shared access policy"));
    }
    hub.fault(&Fault::Clear);
    assert!(hub.inside().get(&device).is_ok());
    assert_eq!(hub.inside().twin(&device).unwrap().revision, 0);
    assert!(
        rest.create_device("n").await.is_ok(),
        "the next token is a new one"
    );
}

fn call() -> MethodCall<'static> {
    MethodCall {
        device: "d",
        module: None,
        name: "reboot",
        payload: &Value::Null,
        response_timeout: Duration::from_secs(5),
        connect_timeout: Duration::ZERO,
    }
}

#[tokio::test]
async fn a_method_says_whether_its_device_may_have_run_it() {
    let hub = Hub::start().await;
    let device = hub.register("d", None);
    let rest = hub.rest("service");
    let id = || "d".to_owned();
    let error = rest.invoke(call()).await.unwrap_err();
    assert_eq!(error, HubError::NotOnline { id: id() });
    assert_eq!(error.taken(), Taken::No);

    let mut session = hub.connect(&device);
    session.subscribe(Subscription::Methods);
    let error = rest.invoke(call()).await.unwrap_err();
    assert_eq!(error, HubError::MethodTimedOut { id: id() });
    assert_eq!(error.taken(), Taken::Unknown);
    assert!(session.mailbox.try_recv().is_ok());

    hub.lose(Operation::Methods);
    let answers = async {
        let Some(ToDevice::Method { rid, .. }) = session.mailbox.recv().await else {
            panic!("no method");
        };
        session.answer_method(rid, 200, &"{}".into());
    };
    let (called, ()) = tokio::join!(rest.invoke(call()), answers);
    let error = called.unwrap_err();
    assert!(matches!(error, HubError::OutcomeUnknown { .. }), "{error}");
    assert_eq!(error.taken(), Taken::Unknown);
    assert!(session.mailbox.try_recv().is_err(), "it was called once");
}

#[tokio::test]
async fn a_tier_lets_through_what_it_allows_and_the_rest_is_told_when() {
    let hub = Hub::start().await;
    let rest = hub.owner();
    // 100 operations of the registry a minute and unit, of which ten may come at once.
    hub.inside().meter.limit(Some(&Limits {
        tier: Tier::S1,
        units: 1,
        operations: vec![Operation::Registry],
        burst_seconds: 6.0,
    }));
    let (began, mut through, mut told) = (Instant::now(), 0_u32, 0_u32);
    while began.elapsed() < Duration::from_secs(2) {
        match rest.device("d").await.unwrap_err() {
            HubError::DeviceNotFound { .. } => through += 1,
            HubError::Throttled { retry_after } => {
                assert_eq!(retry_after, Some(Duration::from_secs(1)));
                told += 1;
            }
            error => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let predicted = 10.0 + began.elapsed().as_secs_f64() * 100.0 / 60.0;
    assert!(
        (f64::from(through) - predicted).abs() <= 2.0,
        "{through}, not {predicted}"
    );
    let counted = hub.count(Operation::Registry);
    assert_eq!(
        (counted.accepted, counted.refused),
        (through.into(), told.into())
    );
    hub.inside().meter.limit(None);
    let lifted = rest.device("d").await.unwrap_err();
    assert!(
        matches!(lifted, HubError::DeviceNotFound { .. }),
        "{lifted}"
    );
}
