//! What holds for every status at any time: looked at during all tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use futures::StreamExt;
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event, watcher},
};
use operator::api::{AzureIotHubConnector, AzureIotHubConnectorStatus};
use serde_json::{from_value, json};

/// Statuses as they were last seen, by uid, and what was wrong with those that followed.
#[derive(Default)]
struct Seen {
    last: BTreeMap<String, AzureIotHubConnectorStatus>,
    wrong: Vec<String>,
}

/// Looks at all statuses of a namespace until it is dropped; then the test fails if one was wrong.
pub struct Invariants(Arc<Mutex<Seen>>);

impl Invariants {
    /// Looks from now on.
    pub fn watch(client: Client, namespace: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let resource = ApiResource::erase::<AzureIotHubConnector>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
                    let status = from_value(object.data["status"].clone()).unwrap_or_default();
                    let uid = object.metadata.uid.unwrap_or_default();
                    kept.lock().unwrap().look(uid, status);
                }
            }
        });
        Self(seen)
    }
}

impl Drop for Invariants {
    fn drop(&mut self) {
        let wrong = std::mem::take(&mut self.0.lock().unwrap().wrong);
        if !std::thread::panicking() {
            assert!(
                wrong.is_empty(),
                "broken: N2, what holds for every status: {wrong:?}"
            );
        }
    }
}

impl Seen {
    fn look(&mut self, uid: String, status: AzureIotHubConnectorStatus) {
        let none = AzureIotHubConnectorStatus::default();
        let before = self.last.get(&uid).unwrap_or(&none);
        if status.observed_generation < before.observed_generation {
            self.wrong.push("observedGeneration goes back".into());
        }
        let mut types = BTreeSet::new();
        for now in &status.conditions {
            if !types.insert(&now.type_) {
                self.wrong.push(format!("{} stands twice", now.type_));
            }
            if now.message.chars().count() > 1024 {
                self.wrong
                    .push(format!("{} says more than fits", now.type_));
            }
            let old = before.conditions.iter().find(|old| old.type_ == now.type_);
            if let Some(old) = old {
                let (moved, flipped) = (
                    old.last_transition_time != now.last_transition_time,
                    old.status != now.status,
                );
                // A flip within the same second leaves the time as it is.
                if moved && !flipped {
                    self.wrong.push(format!(
                        "{}: the time moves and the status does not",
                        now.type_
                    ));
                }
            }
        }
        self.last.insert(uid, status);
    }
}

#[test]
fn n2_finds_what_must_not_be() {
    let condition = |kind: &str, status: &str, time: &str| {
        json!({
            "type": kind, "status": status, "lastTransitionTime": time, "reason": "R", "message": "m",
        })
    };
    let status = |generation: i64, conditions: Vec<serde_json::Value>| {
        from_value(json!({"observedGeneration": generation, "conditions": conditions})).unwrap()
    };
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z");
    let found = |before, after| {
        let mut seen = Seen::default();
        seen.look("uid".into(), before);
        seen.look("uid".into(), after);
        seen.wrong
    };
    let first = || status(2, vec![condition("Ready", "True", early)]);
    assert!(found(first(), first()).is_empty());
    assert!(found(first(), status(3, vec![condition("Ready", "False", late)])).is_empty());
    assert_eq!(found(first(), status(1, vec![])).len(), 1);
    assert_eq!(
        found(first(), status(2, vec![condition("Ready", "True", late)])).len(),
        1
    );
    let twice = vec![
        condition("Ready", "True", early),
        condition("Ready", "True", early),
    ];
    assert_eq!(found(first(), status(2, twice)).len(), 1);
}
