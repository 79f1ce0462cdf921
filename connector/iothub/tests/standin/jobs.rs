//! Jobs.

use std::time::Duration;

use iothub::{
    Class, HubError, HubRest, Job, JobFilter, JobId, JobKind, JobMethod, JobResult, JobSchedule,
    JobStatus, MethodAnswer, PageRequest, Taken, TwinPatch,
};
use iothub_standin::{
    hub::{DeviceSession, Subscription, ToDevice},
    meter::{Limits, Tier},
    operation::Operation,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::hub::{Hub, eventually};

fn schedule(id: &str, devices: &str) -> JobSchedule {
    JobSchedule {
        id: JobId::new(id).unwrap(),
        devices: devices.into(),
        start: None,
        max_execution_time: Duration::from_secs(60),
    }
}

fn later(id: &str) -> JobSchedule {
    JobSchedule {
        start: Some(Timestamp::now() + SignedDuration::from_hours(1)),
        ..schedule(id, "*")
    }
}

fn rate(value: i32) -> TwinPatch {
    TwinPatch {
        tags: json!({"by": "job"}).as_object().cloned(),
        desired: json!({ "rate": value }).as_object().cloned(),
    }
}

fn reboot() -> JobMethod {
    JobMethod {
        name: "reboot".into(),
        payload: json!({"in": 5}),
        response_timeout: Duration::from_secs(5),
        connect_timeout: Duration::ZERO,
    }
}

async fn ended(rest: &HubRest, id: &JobId) -> Job {
    eventually(async || rest.job(id).await.ok().filter(|job| job.status.is_final())).await
}

async fn results(rest: &HubRest, id: &JobId) -> Vec<JobResult> {
    let page = rest.job_results(id, &PageRequest::default()).await.unwrap();
    assert_eq!(page.next, None);
    page.items
}

/// A device that answers each method with what it was called with; gives how many those were.
fn answering(mut session: DeviceSession) -> tokio::task::JoinHandle<usize> {
    session.subscribe(Subscription::Methods);
    tokio::spawn(async move {
        let mut calls = 0;
        while let Some(ToDevice::Method { rid, name, payload }) = session.mailbox.recv().await {
            if name == "stop" {
                break;
            }
            calls += 1;
            let answer = payload.to_string().into();
            session.answer_method(rid, 201, &answer);
        }
        calls
    })
}

#[tokio::test]
async fn a_job_changes_the_twins_that_its_condition_finds() {
    let hub = Hub::start().await;
    let twins = ["a", "b", "c"].map(|id| hub.register(id, None));
    let rest = hub.owner();
    let schedule = schedule("job-1", "deviceId IN ['a', 'b']");
    let made = rest
        .schedule_twin_update(&schedule, &rate(5))
        .await
        .unwrap();
    assert_eq!(
        (made.id.as_str(), &made.kind),
        ("job-1", &JobKind::UpdateTwin)
    );
    assert_eq!(made.status, JobStatus::Queued);
    let job = ended(&rest, &schedule.id).await;
    assert_eq!(job.status, JobStatus::Completed);
    assert_eq!(job.devices, schedule.devices);
    assert!(job.created_time <= job.end_time);
    let statistics = job.device_job_statistics.unwrap();
    assert_eq!(
        (statistics.device_count, statistics.succeeded_count),
        (2, 2)
    );
    let found = results(&rest, &schedule.id).await;
    let ids: Vec<&str> = found.iter().map(|one| one.device_id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert!(found.iter().all(|one| one.status == JobStatus::Completed));
    let revisions = twins.map(|twin| hub.inside().twin(&twin).unwrap().revision);
    assert_eq!(revisions, [1, 1, 0]);
}

#[tokio::test]
async fn a_job_calls_a_method_and_keeps_each_answer_and_failure() {
    let hub = Hub::start().await;
    let here = hub.register("here", None);
    hub.register("away", None);
    let device = answering(hub.connect(&here));
    let rest = hub.owner();
    let schedule = schedule("job-1", "*");
    rest.schedule_method(&schedule, &reboot()).await.unwrap();
    let job = ended(&rest, &schedule.id).await;
    let statistics = job.device_job_statistics.unwrap();
    assert_eq!(
        (statistics.succeeded_count, statistics.failed_count),
        (1, 1)
    );
    let found = results(&rest, &schedule.id).await;
    let [away, here] = found.as_slice() else {
        panic!("{found:?}")
    };
    let payload = json!({"in": 5});
    let status = 201;
    assert_eq!(here.answer, Some(MethodAnswer { status, payload }));
    assert_eq!(away.status, JobStatus::Failed);
    assert_eq!(away.error.as_ref().unwrap().code, "404103");
    drop(hub);
    device.abort();
}

#[tokio::test]
async fn a_job_that_waits_can_be_cancelled_and_one_that_runs_cannot() {
    let hub = Hub::start().await;
    let silent = hub.register("silent", None);
    let session = hub.connect(&silent);
    session.subscribe(Subscription::Methods);
    let rest = hub.owner();
    let waits = later("waits");
    let made = rest.schedule_twin_update(&waits, &rate(1)).await.unwrap();
    assert_eq!(made.status, JobStatus::Scheduled);
    let cancelled = rest.cancel_job(&waits.id).await.unwrap();
    assert_eq!(cancelled.status, JobStatus::Cancelled);
    let runs = schedule("runs", "*");
    rest.schedule_method(&runs, &reboot()).await.unwrap();
    let running = async || {
        let job = rest.job(&runs.id).await.ok()?;
        (job.status == JobStatus::Running).then_some(())
    };
    eventually(running).await;
    for (id, status) in [(&runs.id, "Running"), (&waits.id, "Cancelled")] {
        let error = rest.cancel_job(id).await.unwrap_err();
        assert!(matches!(error, HubError::NotInThisState { .. }), "{error}");
        assert_eq!((error.class(), error.taken()), (Class::User, Taken::No));
        assert!(error.to_string().contains(status), "{error}");
    }
}

#[tokio::test]
async fn a_job_whose_answer_is_lost_is_found_by_its_id_and_made_once() {
    let hub = Hub::start().await;
    let device = hub.register("d", None);
    let calls = answering(hub.connect(&device));
    let rest = hub.owner();
    let schedule = schedule("job-1", "*");
    hub.lose(Operation::Jobs);
    let error = rest
        .schedule_method(&schedule, &reboot())
        .await
        .unwrap_err();
    assert_eq!(error.taken(), Taken::Unknown, "{error}");
    hub.fault(&iothub_standin::fault::Fault::Clear);
    let again = rest.schedule_method(&schedule, &reboot()).await;
    let id = "job-1".to_owned();
    assert_eq!(again, Err(HubError::AlreadyExists { id }));
    assert_eq!(
        ended(&rest, &schedule.id).await.status,
        JobStatus::Completed
    );
    let stop = JobMethod {
        name: "stop".into(),
        ..reboot()
    };
    let last = self::schedule("job-2", "*");
    rest.schedule_method(&last, &stop).await.unwrap();
    assert_eq!(calls.await.unwrap(), 1);
}

#[tokio::test]
async fn a_cancelled_job_whose_answer_is_lost_is_cancelled() {
    let hub = Hub::start().await;
    let rest = hub.owner();
    let schedule = later("job-1");
    rest.schedule_twin_update(&schedule, &rate(1))
        .await
        .unwrap();
    hub.lose(Operation::Jobs);
    let error = rest.cancel_job(&schedule.id).await.unwrap_err();
    assert_eq!(error.taken(), Taken::Unknown, "{error}");
    hub.fault(&iothub_standin::fault::Fault::Clear);
    let job = rest.job(&schedule.id).await.unwrap();
    assert_eq!(job.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn jobs_are_listed_by_kind_and_status_page_by_page() {
    let hub = Hub::start().await;
    let rest = hub.owner();
    for number in 0..5 {
        let schedule = later(&format!("job-{number}"));
        rest.schedule_twin_update(&schedule, &rate(1))
            .await
            .unwrap();
    }
    rest.schedule_method(&later("call"), &reboot())
        .await
        .unwrap();
    let mut filter = JobFilter {
        kind: Some(JobKind::UpdateTwin),
        status: Some(JobStatus::Scheduled),
    };
    let mut page = PageRequest {
        size: Some(2),
        from: None,
    };
    let mut found = Vec::new();
    loop {
        let listed = rest.jobs(&filter, &page).await.unwrap();
        found.extend(listed.items.into_iter().map(|job| job.id));
        page.from = listed.next;
        if page.from.is_none() {
            break;
        }
    }
    assert_eq!(found, ["job-0", "job-1", "job-2", "job-3", "job-4"]);
    filter.status = Some(JobStatus::Running);
    let none = rest.jobs(&filter, &PageRequest::default()).await.unwrap();
    assert_eq!((none.items, none.next), (Vec::new(), None));
}

#[tokio::test]
async fn what_the_hub_does_not_do_has_its_own_words() {
    let hub = Hub::start().await;
    let silent = hub.register("silent", None);
    let session = hub.connect(&silent);
    session.subscribe(Subscription::Methods);
    let rest = hub.owner();
    let id = JobId::new("ghost").unwrap();
    let ghost = || HubError::JobNotFound { id: "ghost".into() };
    assert_eq!(rest.job(&id).await, Err(ghost()));
    assert_eq!(rest.cancel_job(&id).await, Err(ghost()));
    assert_eq!(results(&rest, &id).await, Vec::new());
    let denied = hub.rest("service").job(&id).await.unwrap_err();
    assert!(denied.to_string().contains("RegistryRead"), "{denied}");
    let denied = hub.rest("reader").cancel_job(&id).await.unwrap_err();
    assert!(denied.to_string().contains("RegistryWrite"), "{denied}");
    let bad = schedule("bad", "tags.x LIKE 'y'");
    let refused = rest.schedule_twin_update(&bad, &rate(1)).await.unwrap_err();
    assert_eq!(refused.class(), Class::User, "{refused}");
    let large = JobMethod {
        payload: Value::String("x".repeat(128 * 1024)),
        ..reboot()
    };
    let refused = rest.schedule_method(&schedule("large", "*"), &large).await;
    assert!(
        matches!(refused, Err(HubError::TooLarge { .. })),
        "{refused:?}"
    );

    hub.inside().meter.limit(Some(&Limits {
        tier: Tier::S1,
        units: 100,
        operations: vec![Operation::Jobs],
        burst_seconds: 10.0,
    }));
    rest.schedule_method(&schedule("first", "*"), &reboot())
        .await
        .unwrap();
    let error = rest
        .schedule_method(&schedule("second", "*"), &reboot())
        .await
        .unwrap_err();
    assert_eq!(
        (&error, error.class()),
        (&HubError::TooManyJobs, Class::Throttled)
    );
}
