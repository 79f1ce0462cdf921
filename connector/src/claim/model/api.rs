//! An API server of Leases, in memory: each write has a version, and one that was made from an older
//! version is refused.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, client::Body};
use serde_json::{Value, json};

use super::{member::Access, platform::Platform};

const PARTITION: &str = "iot-connectors.dev/partition";
const SEQUENCE: &str = "iot-connectors.dev/sequence";
const EPOCH: &str = "iot-connectors.dev/epoch";

/// All Leases.
pub struct ApiServer {
    leases: Mutex<State>,
    platform: Arc<Platform>,
    seed: u64,
}

#[derive(Default)]
struct State {
    leases: BTreeMap<String, Value>,
    version: u64,
    /// Checkpoints that told more than was written.
    beyond: Option<String>,
}

impl ApiServer {
    /// Knows no Lease; checks checkpoints against what the platform has.
    pub fn new(seed: u64, platform: Arc<Platform>) -> Self {
        Self {
            leases: Mutex::default(),
            platform,
            seed,
        }
    }

    /// The first checkpoint that told more than was written.
    pub fn beyond(&self) -> Option<String> {
        self.leases.lock().unwrap().beyond.clone()
    }

    /// The epoch of each claim.
    pub fn epochs(&self) -> BTreeMap<String, i64> {
        let state = self.leases.lock().unwrap();
        let claims = state.leases.values().filter_map(|lease| {
            let note = |key: &str| lease["metadata"]["annotations"][key].as_str();
            Some((note(PARTITION)?.to_owned(), note(EPOCH)?.parse().ok()?))
        });
        claims.collect()
    }

    /// Who holds what, in words.
    pub fn holders(&self) -> String {
        let state = self.leases.lock().unwrap();
        let all = state.leases.iter().map(|(name, lease)| {
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or("nobody");
            format!("{name}: {holder}")
        });
        all.collect::<Vec<_>>().join(", ")
    }

    /// The Leases as a member sees them.
    pub fn api(self: &Arc<Self>, access: Arc<Access>) -> Api<Lease> {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (server, access) = (server.clone(), access.clone());
            async move {
                access.before_api().await;
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap_or_default();
                let path = parts.uri.path().to_owned();
                let (code, answer) = server.serve(parts.method.as_str(), &path, &body);
                access.after_api().await;
                let response = http::Response::builder()
                    .status(code)
                    .body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        Api::namespaced(Client::new(service, "plant"), "plant")
    }

    fn serve(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let mut state = self.leases.lock().unwrap();
        let name = path
            .rsplit_once("/leases")
            .map_or("", |(_, name)| name.trim_start_matches('/'));
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let known = state.leases.get(name).cloned();
        match (method, known) {
            ("GET", _) if name.is_empty() => {
                let items: Vec<&Value> = state.leases.values().collect();
                let list = json!({
                    "kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1",
                    "metadata": {"resourceVersion": state.version.to_string()}, "items": items,
                });
                (200, list)
            }
            ("POST", _) => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                if state.leases.contains_key(&name) {
                    return refused(409);
                }
                (201, self.put(&mut state, &name, body, true))
            }
            ("GET", Some(lease)) => (200, lease),
            ("PUT", Some(lease)) => {
                let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
                if version(&lease) != version(&body) {
                    return refused(409);
                }
                (200, self.put(&mut state, name, body, false))
            }
            ("PATCH", Some(mut lease)) => {
                merge(&mut lease, &body);
                (200, self.put(&mut state, name, lease, false))
            }
            ("DELETE", Some(lease)) => {
                state.leases.remove(name);
                (200, lease)
            }
            _ => refused(404),
        }
    }

    fn put(&self, state: &mut State, name: &str, mut lease: Value, new: bool) -> Value {
        state.version += 1;
        let metadata = &mut lease["metadata"];
        metadata["resourceVersion"] = json!(state.version.to_string());
        if new {
            // Seconds would do; versions tell apart what begins in the same one.
            let (minutes, seconds) = (state.version / 60 % 60, state.version % 60);
            metadata["creationTimestamp"] =
                json!(format!("2026-01-01T00:{minutes:02}:{seconds:02}Z"));
        }
        let notes = &metadata["annotations"];
        if let (Some(partition), Some(sequence)) =
            (notes[PARTITION].as_str(), notes[SEQUENCE].as_str())
            && let Some(unwritten) = self
                .platform
                .unwritten(partition, sequence.parse().unwrap())
        {
            let seed = self.seed;
            let what =
                format!("seed {seed}: partition {partition} at {sequence} without {unwritten}");
            state.beyond.get_or_insert(what);
        }
        state.leases.insert(name.to_owned(), lease.clone());
        lease
    }
}

fn refused(code: u16) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "message": "refused",
        "reason": if code == 404 { "NotFound" } else { "Conflict" }
    });
    (code, status)
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}
