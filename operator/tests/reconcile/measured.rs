//! What is measured.

use crate::{plant::Plant, wait::settled};

/// Names that dashboards made for controller-runtime and client-go know, and ours.
const NAMES: [&str; 26] = [
    "controller_runtime_reconcile_total",
    "controller_runtime_reconcile_errors_total",
    "controller_runtime_terminal_reconcile_errors_total",
    "controller_runtime_reconcile_time_seconds_count",
    "controller_runtime_max_concurrent_reconciles",
    "controller_runtime_active_workers",
    "workqueue_depth",
    "workqueue_adds_total",
    "workqueue_queue_duration_seconds_count",
    "workqueue_work_duration_seconds_count",
    "workqueue_unfinished_work_seconds",
    "workqueue_longest_running_processor_seconds",
    "workqueue_retries_total",
    "rest_client_requests_total",
    "leader_election_master_status",
    "azureiothub_operator_reconciles_total",
    "azureiothub_operator_child_writes_total",
    "azureiothub_operator_status_writes_total",
    "azureiothub_operator_in_backoff",
    "azureiothub_operator_connectors",
    "azureiothub_operator_rollouts",
    "azureiothub_operator_watch_failures_total",
    "azureiothub_operator_watch_failing",
    "azureiothub_operator_watch_restarts_total",
    "azureiothub_operator_watch_last_event_age_seconds",
    "azureiothub_operator_build_info",
];

#[tokio::test]
async fn n3_what_the_operator_does_is_measured_under_the_names_of_its_family_and_without_names_of_objects()
 {
    let Some(plant) = Plant::new("n3-plant").await else {
        return;
    };
    let operator = plant.operator().await;
    plant.connect(1).await;
    plant.bound("a new connector becomes ready").await;
    // One that cannot be carried out, and watches that break.
    plant
        .create("faulty", |spec| {
            spec["routingGroup"] = serde_json::Value::Null;
        })
        .await;
    operator.proxy.cut();
    settled(&operator.proxy).await;
    let (_, text) = operator.get("/metrics").await;
    for name in NAMES {
        let there = text.lines().any(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with('{') || rest.starts_with(' ')
        });
        assert!(there, "broken: {name} is measured\n{text}");
    }
    for word in ["n3-plant", "factory", "faulty"] {
        assert!(
            !text.contains(word),
            "broken: no label names an object: {word}"
        );
    }
    assert!(
        operator
            .metric("controller_runtime_reconcile_total", "result=\"success\"")
            .await
            > 0.0
    );
    assert!(
        operator
            .metric("rest_client_requests_total", "code=\"200\"")
            .await
            > 10.0
    );
    assert!(operator.metric("workqueue_adds_total", "").await > 0.0);
    assert_eq!(
        operator.metric("leader_election_master_status", "").await,
        1.0
    );
}
