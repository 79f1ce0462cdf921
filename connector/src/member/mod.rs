//! The member's own Lease: made first, renewed all the time, deleted last. It carries the report, the
//! only channel from pod to operator.

mod living;

use std::time::Duration;

use connector_config::{KubernetesStore, MemberReport, annotation, label};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::{identity::Identity, report::Reporter};

pub use living::Members;

/// A Lease is renewed every 2 s; four missed renewals make a member dead.
const RENEW: Duration = Duration::from_secs(2);
/// For people who look at the Lease; the observers count renewals by their own clock.
const DURATION_S: i32 = 8;
/// Reports are at least this far apart.
const REPORT: Duration = Duration::from_secs(1);
/// One call to the API server: shorter than what makes a member dead.
const CALL: Duration = Duration::from_secs(3);

/// The Lease of this member.
pub struct MemberLease {
    leases: Api<Lease>,
    name: String,
    lease: Lease,
}

/// Why the Lease could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The API server refuses, or cannot be reached.
    #[error("the member's Lease: {0}")]
    Api(String),
}

impl MemberLease {
    /// Makes the Lease, owned by the pod so that it goes with it.
    ///
    /// # Errors
    /// [`MemberError`] if the API server does not take it.
    pub async fn create(
        leases: Api<Lease>,
        identity: &Identity,
        store: &KubernetesStore,
        report: MemberReport,
    ) -> Result<Self, MemberError> {
        let name = identity.lease();
        let labels = [
            (label::NAME, label::NAME_VALUE),
            (label::INSTANCE, store.connector.as_str()),
            (label::COMPONENT, label::COMPONENT_MEMBER),
        ];
        let annotations = [
            (annotation::CONNECTOR_UID, store.connector_uid.clone()),
            (annotation::REPORT, text(&report)),
        ];
        let owner = OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: identity.pod.clone(),
            uid: identity.pod_uid.clone(),
            ..OwnerReference::default()
        };
        let now = MicroTime(Timestamp::now());
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(owned(labels.map(|(key, value)| (key, value.to_owned())))),
                annotations: Some(owned(annotations)),
                owner_references: (!identity.pod_uid.is_empty()).then(|| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(identity.member().as_str().to_owned()),
                lease_duration_seconds: Some(DURATION_S),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        let this = Self {
            leases,
            name,
            lease,
        };
        this.make().await?;
        Ok(this)
    }

    async fn make(&self) -> Result<(), MemberError> {
        match timeout(
            CALL,
            self.leases.create(&PostParams::default(), &self.lease),
        )
        .await
        {
            Ok(Ok(_)) => Ok(()),
            // An earlier try whose answer was lost.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
            Ok(Err(error)) => Err(MemberError::Api(error.to_string())),
            Err(_) => Err(MemberError::Api(
                "the API server did not answer in time".into(),
            )),
        }
    }

    /// Renews the Lease and writes each change of the report until `end`, then deletes it.
    pub async fn keep(self, reporter: Reporter, end: CancellationToken) {
        let mut watch = reporter.watch();
        let mut renew = interval(RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut written, mut written_at) = (None, Instant::now());
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                _ = renew.tick() => {}
                _ = watch.changed() => {
                    let told = written
                        .as_ref()
                        .is_some_and(|report: &MemberReport| report.draining);
                    // At least a second apart, with whatever it says by then. But that it leaves is said
                    // at once: others hand over to it until they know.
                    tokio::select! {
                        () = end.cancelled() => break,
                        () = watch.draining(), if !told => {}
                        () = tokio::time::sleep_until(written_at + REPORT) => {}
                    }
                }
            }
            let report = reporter.now();
            let changed = (written.as_ref() != Some(&report)).then_some(&report);
            match self.renew(changed).await {
                Ok(()) => {
                    written = Some(report);
                    written_at = Instant::now();
                }
                Err(error) => tracing::debug!(%error, "the member's Lease was not renewed"),
            }
        }
        let params = DeleteParams::default();
        let delete = self.leases.delete(&self.name, &params);
        if !matches!(timeout(CALL, delete).await, Ok(Ok(_))) {
            tracing::info!(
                lease = self.name,
                "the member's Lease is left to its pod's end"
            );
        }
    }

    async fn renew(&self, report: Option<&MemberReport>) -> Result<(), MemberError> {
        let mut patch = json!({ "spec": { "renewTime": MicroTime(Timestamp::now()) } });
        if let Some(report) = report {
            patch["metadata"] = json!({ "annotations": { annotation::REPORT: text(report) } });
        }
        let params = PatchParams::default();
        let patch = Patch::Merge(&patch);
        match timeout(CALL, self.leases.patch(&self.name, &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            // Somebody has deleted it; we are alive.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => self.make().await,
            Ok(Err(error)) => Err(MemberError::Api(error.to_string())),
            Err(_) => Err(MemberError::Api(
                "the API server did not answer in time".into(),
            )),
        }
    }
}

fn owned<const N: usize>(pairs: [(&str, String); N]) -> std::collections::BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn text(report: &MemberReport) -> String {
    // A struct of texts and numbers always has a JSON form.
    serde_json::to_string(report).unwrap_or_default()
}
