//! The import as a Lease of Kubernetes, shared by all members.
//!
//! It is the custom resource's own and goes with it. Whoever deletes it cancels the import.

use async_trait::async_trait;
use connector_config::{KubernetesStore, annotation::CONNECTOR_UID, label};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::{Api, ResourceExt, api::PostParams};

use super::{
    record::Record,
    store::{Seen, Store},
};
use crate::{
    claim::{ClaimError, call},
    identity::MemberId,
};

/// The [`Record`] as JSON.
const IMPORT: &str = "iot-connectors.dev/import";
/// For people who look at the Lease; members count renewals by their own clocks.
const DURATION_S: i32 = 8;

/// The Lease, as one member writes it.
pub struct LeaseStore {
    leases: Api<Lease>,
    store: KubernetesStore,
    member: MemberId,
}

impl LeaseStore {
    /// The Lease of this connector.
    #[must_use]
    pub fn new(leases: Api<Lease>, store: KubernetesStore, member: MemberId) -> Self {
        Self {
            leases,
            store,
            member,
        }
    }

    /// There is one import at a time, so its name is known.
    fn name(&self) -> String {
        format!("{}-connector-import", self.store.connector)
    }

    /// What a Lease says. One of a resource that had the same name says nothing, but is there.
    fn read(&self, lease: &Lease) -> Seen {
        let notes = lease.annotations();
        let ours = notes.get(CONNECTOR_UID) == Some(&self.store.connector_uid);
        let record = notes.get(IMPORT).filter(|_| ours);
        let holder = lease.spec.as_ref().and_then(|spec| {
            let holder = spec.holder_identity.as_deref();
            holder.filter(|holder| !holder.is_empty())
        });
        Seen {
            version: Some(version(lease)),
            holder: holder.map(MemberId::new),
            record: record.and_then(|text| serde_json::from_str(text).ok()),
        }
    }

    fn written(&self, over: Option<(&str, &str)>, record: &Record, held: bool) -> Lease {
        let KubernetesStore {
            connector,
            connector_uid,
        } = &self.store;
        let labels = [
            (label::NAME, label::NAME_VALUE),
            (label::INSTANCE, connector),
            (label::COMPONENT, label::COMPONENT_IMPORT),
        ];
        // Texts and numbers always have a JSON form.
        let text = serde_json::to_string(record).unwrap_or_default();
        let notes = [(CONNECTOR_UID, connector_uid.clone()), (IMPORT, text)];
        let owner = OwnerReference {
            api_version: "iot-connectors.dev/v1alpha1".into(),
            kind: "AzureIotHubConnector".into(),
            name: connector.clone(),
            uid: connector_uid.clone(),
            ..OwnerReference::default()
        };
        let now = MicroTime(Timestamp::now());
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name()),
                resource_version: over.map(|(version, _)| version.to_owned()),
                // Without it the API server would make a Lease anew that was deleted.
                uid: over.map(|(_, uid)| uid.to_owned()),
                labels: Some(labels.map(|(key, to)| (key.into(), to.into())).into()),
                annotations: Some(notes.map(|(key, to)| (key.into(), to)).into()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: held.then(|| self.member.as_str().to_owned()),
                lease_duration_seconds: Some(DURATION_S),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// A version of a Lease, and which Lease it is of.
fn version(lease: &Lease) -> String {
    let version = lease.resource_version().unwrap_or_default();
    format!("{version}/{}", lease.uid().unwrap_or_default())
}

#[async_trait]
impl Store for LeaseStore {
    async fn look(&self) -> Result<Seen, ClaimError> {
        let found = call(self.leases.get_opt(&self.name())).await?;
        Ok(found.map_or_else(Seen::default, |lease| self.read(&lease)))
    }

    async fn put(
        &self,
        over: Option<&str>,
        record: &Record,
        held: bool,
    ) -> Result<String, ClaimError> {
        let over = over.and_then(|over| over.split_once('/'));
        let lease = self.written(over, record, held);
        let (name, params) = (self.name(), PostParams::default());
        let written = match over {
            None => call(self.leases.create(&params, &lease)).await?,
            Some(_) => call(self.leases.replace(&name, &params, &lease)).await?,
        };
        Ok(version(&written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        claim::lease_api,
        import::record::{Asked, State},
    };

    fn record() -> Record {
        Record::new(Asked {
            template: "AzureIotThing".into(),
            condition: Some("tags.site = 'a'".into()),
        })
    }

    fn store(leases: &Api<Lease>, member: &str, uid: &str) -> LeaseStore {
        let store = KubernetesStore {
            connector: "factory".into(),
            connector_uid: uid.into(),
        };
        LeaseStore::new(leases.clone(), store, MemberId::new(member))
    }

    #[tokio::test]
    async fn of_two_members_that_begin_or_go_on_one_does() {
        let leases = lease_api().await;
        let (a, b) = (store(&leases, "a", "uid"), store(&leases, "b", "uid"));
        assert!(a.look().await.unwrap().version.is_none());
        let (first, second) = (record(), record());
        let version = a.put(None, &first, true).await.unwrap();
        let late = b.put(None, &second, true).await;
        assert!(matches!(late, Err(ClaimError::Lost)), "{late:?}");
        let seen = b.look().await.unwrap();
        assert_eq!(seen.running(), Some(&first));
        assert_eq!(seen.holder, Some(MemberId::new("a")));
        assert_eq!(seen.version.as_ref(), Some(&version));

        b.put(Some(&version), &first, true).await.unwrap();
        let stale = a.put(Some(&version), &first, true).await;
        assert!(matches!(stale, Err(ClaimError::Lost)), "{stale:?}");

        let seen = a.look().await.unwrap();
        let ended = Record {
            state: State::Completed,
            ..first
        };
        a.put(seen.version.as_deref(), &ended, false).await.unwrap();
        let seen = b.look().await.unwrap();
        assert_eq!((seen.running(), &seen.holder), (None, &None));
    }

    #[tokio::test]
    async fn a_resource_made_anew_does_not_go_on_with_the_import_of_its_namesake() {
        let leases = lease_api().await;
        let old = store(&leases, "a", "old");
        old.put(None, &record(), true).await.unwrap();
        let new = store(&leases, "b", "new");
        let seen = new.look().await.unwrap();
        assert!(seen.record.is_none());
        let begun = record();
        new.put(seen.version.as_deref(), &begun, true)
            .await
            .unwrap();
        assert_eq!(new.look().await.unwrap().running(), Some(&begun));
        let lease = leases.get("factory-connector-import").await.unwrap();
        assert_eq!(lease.owner_references()[0].uid, "new");
    }
}
