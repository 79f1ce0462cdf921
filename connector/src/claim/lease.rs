//! A claim as a Lease of Kubernetes.

mod elsewhere;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_config::{KubernetesStore, annotation::CONNECTOR_UID, digest8, label};
use iothub::{Epoch, PartitionId, SourceIdentity};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, api::PostParams};
use tokio::time::timeout;

use super::{Claim, ClaimError};
use crate::{
    identity::{Identity, MemberId},
    ingress::Mark,
};

/// After a take-over from a member that did not hand over: one time-out of its last write.
const FENCE: Duration = Duration::from_secs(4);
/// One call to the API server.
const CALL: Duration = Duration::from_secs(5);

const PARTITION: &str = "iot-connectors.dev/partition";
const EPOCH: &str = "iot-connectors.dev/epoch";
const OFFSET: &str = "iot-connectors.dev/offset";
const SEQUENCE: &str = "iot-connectors.dev/sequence";
const ENQUEUED: &str = "iot-connectors.dev/enqueued";
const HOLDER_POD: &str = "iot-connectors.dev/holder-pod-uid";
const SOURCE: &str = "iot-connectors.dev/source";
const TEMPLATE: &str = "iot-connectors.dev/pod-template-hash";
const MOVES: &str = "iot-connectors.dev/moves";
const FORMAT: &str = "iot-connectors.dev/format";

/// What a claim's Lease says.
#[derive(Debug, Clone)]
pub struct ClaimRecord {
    /// The partition.
    pub partition: PartitionId,
    /// Who holds it.
    pub holder: Option<MemberId>,
    /// Uid of the holder's pod.
    pub holder_pod: String,
    /// Uid of the custom resource whose members share the claim.
    pub connector_uid: String,
    /// How often it was claimed by pods of the holder's template.
    pub moves: u32,
    lease: Lease,
}

impl ClaimRecord {
    /// Whether nobody holds it.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.holder.is_none()
    }

    /// The checkpoint.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        mark(&self.lease)
    }
}

/// Which Leases are the claims of one consumer group of one hub.
#[derive(Clone)]
pub struct Claims {
    leases: Api<Lease>,
    store: KubernetesStore,
    source: SourceIdentity,
    member: MemberId,
    pod_uid: String,
    template: String,
    /// The wall clock, in seconds since 1970: only where a first epoch comes from, whatever it says.
    pub(super) now_s: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl Claims {
    /// Claims of the member that has this identity.
    #[must_use]
    pub fn new(
        leases: Api<Lease>,
        store: KubernetesStore,
        source: SourceIdentity,
        identity: &Identity,
    ) -> Self {
        Self {
            leases,
            store,
            source,
            member: identity.member(),
            pod_uid: identity.pod_uid.clone(),
            template: identity.pod_template_hash.clone(),
            now_s: Arc::new(|| Timestamp::now().as_second()),
        }
    }

    /// Name of a partition's Lease: the same for everybody who reads this consumer group of this hub,
    /// and another when the hub's endpoint moves, since offsets of the old one mean nothing there.
    #[must_use]
    pub fn name(&self, partition: &PartitionId) -> String {
        let SourceIdentity {
            namespace,
            hub,
            consumer_group,
        } = &self.source;
        let key = format!("{namespace}\n{hub}\n{consumer_group}").to_lowercase();
        format!(
            "azure-iot-claim-{}-{}",
            digest8(key.as_bytes()),
            partition.as_str()
        )
    }

    /// The claim that a Lease is; `None` for one of another hub or consumer group.
    #[must_use]
    pub fn read(&self, lease: &Lease) -> Option<ClaimRecord> {
        let annotation = |key: &str| lease.metadata.annotations.as_ref()?.get(key).cloned();
        let partition = PartitionId::new(annotation(PARTITION)?);
        if lease.metadata.name.as_deref() != Some(self.name(&partition).as_str()) {
            return None;
        }
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.clone());
        Some(ClaimRecord {
            partition,
            holder: holder
                .filter(|holder| !holder.is_empty())
                .map(MemberId::new),
            holder_pod: annotation(HOLDER_POD).unwrap_or_default(),
            connector_uid: annotation(CONNECTOR_UID).unwrap_or_default(),
            moves: note(lease, MOVES).unwrap_or_default(),
            lease: lease.clone(),
        })
    }

    /// Claims a partition that nobody has claimed before.
    ///
    /// # Errors
    /// [`ClaimError::Lost`] if somebody else was faster.
    pub async fn create(&self, partition: &PartitionId) -> Result<LeaseClaim, ClaimError> {
        // Unix seconds: higher than any epoch of a claim that was deleted with its checkpoint.
        let epoch = (self.now_s)();
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name(partition)),
                ..ObjectMeta::default()
            },
            spec: None,
        };
        let lease = self.counted(self.written(lease, partition, epoch, None, true));
        let made = call(self.leases.create(&PostParams::default(), &lease)).await?;
        Ok(self.claim(made, partition.clone(), epoch, Duration::ZERO))
    }

    /// Claims a partition that is free, or whose holder is dead.
    ///
    /// # Errors
    /// [`ClaimError::Lost`] if it has changed since it was read.
    pub async fn take(&self, record: &ClaimRecord) -> Result<LeaseClaim, ClaimError> {
        let epoch = epoch(&record.lease).unwrap_or_else(|| (self.now_s)()) + 1;
        // A claim that was released was settled by its owner; one that was not may have writes under way.
        let fence = if record.holder.is_some() {
            FENCE
        } else {
            Duration::ZERO
        };
        let mark = mark(&record.lease);
        let lease = self.counted(self.written(
            record.lease.clone(),
            &record.partition,
            epoch,
            mark.as_ref(),
            true,
        ));
        let made = self.replace(&lease).await?;
        Ok(self.claim(made, record.partition.clone(), epoch, fence))
    }

    /// Lets go of a claim that is ours; its position stays as it was stored last.
    ///
    /// # Errors
    /// [`ClaimError::Lost`] if it has changed since it was read.
    pub async fn give_back(&self, record: &ClaimRecord) -> Result<(), ClaimError> {
        let epoch = epoch(&record.lease).unwrap_or_else(|| (self.now_s)());
        let lease = self.written(record.lease.clone(), &record.partition, epoch, None, false);
        self.replace(&lease).await.map(drop)
    }

    /// The Lease of a partition as it is now.
    ///
    /// # Errors
    /// [`ClaimError::Unavailable`] if the API server does not answer.
    pub async fn get(&self, partition: &PartitionId) -> Result<Option<ClaimRecord>, ClaimError> {
        let name = self.name(partition);
        let found = timeout(CALL, self.leases.get_opt(&name))
            .await
            .map_err(|_| ClaimError::Unavailable("the API server did not answer in time".into()))?
            .map_err(|error| ClaimError::Unavailable(error.to_string()))?;
        Ok(found.and_then(|lease| self.read(&lease)))
    }

    fn claim(
        &self,
        lease: Lease,
        partition: PartitionId,
        epoch: i64,
        fence: Duration,
    ) -> LeaseClaim {
        LeaseClaim {
            claims: self.clone(),
            lease,
            partition,
            epoch: Epoch(epoch),
            fence,
        }
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, ClaimError> {
        let name = lease.metadata.name.clone().unwrap_or_default();
        call(self.leases.replace(&name, &PostParams::default(), lease)).await
    }

    /// The Lease with one more move among pods of our template.
    fn counted(&self, mut lease: Lease) -> Lease {
        let ours = note::<String>(&lease, TEMPLATE).as_deref() == Some(&self.template);
        let moves = note::<u32>(&lease, MOVES).filter(|_| ours).unwrap_or(0);
        let notes = lease.metadata.annotations.get_or_insert_default();
        notes.insert(TEMPLATE.to_owned(), self.template.clone());
        notes.insert(MOVES.to_owned(), moves.saturating_add(1).to_string());
        lease
    }

    /// The Lease with these contents; its `resourceVersion` stays and guards the write.
    fn written(
        &self,
        mut lease: Lease,
        partition: &PartitionId,
        epoch: i64,
        mark: Option<&Mark>,
        held: bool,
    ) -> Lease {
        let mut notes = BTreeMap::from([
            (FORMAT, "1".to_owned()),
            (PARTITION, partition.as_str().to_owned()),
            (EPOCH, epoch.to_string()),
            (CONNECTOR_UID, self.store.connector_uid.clone()),
            (SOURCE, source_text(&self.source)),
            (
                HOLDER_POD,
                if held {
                    self.pod_uid.clone()
                } else {
                    String::new()
                },
            ),
        ]);
        if let Some(Mark {
            offset,
            sequence,
            enqueued_ms,
        }) = mark
        {
            notes.insert(OFFSET, offset.to_string());
            notes.insert(SEQUENCE, sequence.to_string());
            notes.insert(ENQUEUED, enqueued_ms.to_string());
        }
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.extend(
            notes
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value)),
        );
        let labels = lease.metadata.labels.get_or_insert_default();
        labels.extend(claim_labels(&self.store.connector));
        lease.metadata.managed_fields = None;
        let now = MicroTime(Timestamp::now());
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        spec.holder_identity = held.then(|| self.member.as_str().to_owned());
        spec.renew_time = Some(now.clone());
        if held {
            spec.acquire_time = Some(now);
        }
        lease
    }
}

/// A source as a claim names it.
fn source_text(source: &SourceIdentity) -> String {
    let SourceIdentity {
        namespace,
        hub,
        consumer_group,
    } = source;
    format!("{namespace}/{hub}/{consumer_group}")
}

/// Labels of a claim of `connector`.
fn claim_labels(connector: &str) -> impl Iterator<Item = (String, String)> {
    [
        (label::NAME, label::NAME_VALUE),
        (label::INSTANCE, connector),
        (label::COMPONENT, label::COMPONENT_CLAIM),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into_iter()
}

/// One call to the API server.
pub(crate) async fn call<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ClaimError> {
    match timeout(CALL, request).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
            Err(ClaimError::Lost)
        }
        Ok(Err(error)) => Err(ClaimError::Unavailable(error.to_string())),
        Err(_) => Err(ClaimError::Unavailable(
            "the API server did not answer in time".into(),
        )),
    }
}

fn note<T: std::str::FromStr>(lease: &Lease, key: &str) -> Option<T> {
    lease.metadata.annotations.as_ref()?.get(key)?.parse().ok()
}

fn epoch(lease: &Lease) -> Option<i64> {
    note(lease, EPOCH)
}

fn mark(lease: &Lease) -> Option<Mark> {
    let offset: String = note(lease, OFFSET)?;
    Some(Mark {
        offset: offset.into(),
        sequence: note(lease, SEQUENCE)?,
        enqueued_ms: note(lease, ENQUEUED).unwrap_or_default(),
    })
}

/// A claim that is held.
pub struct LeaseClaim {
    claims: Claims,
    lease: Lease,
    partition: PartitionId,
    epoch: Epoch,
    fence: Duration,
}

impl LeaseClaim {
    /// Somebody has deleted the Lease. We read the partition, so it is made again as it was, unless
    /// somebody else has claimed the partition meanwhile.
    async fn make_again(&mut self) -> Result<(), ClaimError> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: self.lease.metadata.name.clone(),
                ..ObjectMeta::default()
            },
            spec: None,
        };
        let mark = mark(&self.lease);
        let lease = self
            .claims
            .written(lease, &self.partition, self.epoch.0, mark.as_ref(), true);
        let leases = &self.claims.leases;
        self.lease = call(leases.create(&PostParams::default(), &lease)).await?;
        let partition = self.partition.as_str();
        tracing::warn!(partition, "the claim was deleted, and is made again");
        Ok(())
    }

    async fn write(&mut self, mark: Option<&Mark>, held: bool) -> Result<(), ClaimError> {
        let lease = self.lease.clone();
        let lease = self
            .claims
            .written(lease, &self.partition, self.epoch.0, mark, held);
        match self.claims.replace(&lease).await {
            Ok(written) => {
                self.lease = written;
                Ok(())
            }
            // Perhaps our own write, whose answer was lost: then the Lease still names us.
            Err(ClaimError::Lost) => {
                self.confirm().await?;
                let again = self.lease.clone();
                let again = self
                    .claims
                    .written(again, &self.partition, self.epoch.0, mark, held);
                self.lease = self.claims.replace(&again).await?;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Claim for LeaseClaim {
    fn partition(&self) -> &PartitionId {
        &self.partition
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn mark(&self) -> Option<Mark> {
        mark(&self.lease)
    }

    fn fence(&self) -> Duration {
        self.fence
    }

    async fn save(&mut self, mark: &Mark) -> Result<(), ClaimError> {
        self.write(Some(mark), true).await
    }

    async fn confirm(&mut self) -> Result<(), ClaimError> {
        let Some(record) = self.claims.get(&self.partition).await? else {
            return self.make_again().await;
        };
        let ours = record.holder.as_ref() == Some(&self.claims.member)
            && epoch(&record.lease) == Some(self.epoch.0);
        if !ours {
            return Err(ClaimError::Lost);
        }
        self.lease = record.lease;
        Ok(())
    }

    async fn release(&mut self, mark: Option<&Mark>) -> Result<(), ClaimError> {
        self.write(mark, false).await
    }
}

#[cfg(test)]
pub(super) mod tests;
