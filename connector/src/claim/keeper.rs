//! Shares the partitions with the other members of the same custom resource.
//!
//! Every look lists the connector's Leases once, plans, and does the first steps towards the plan: takes
//! what is free or whose holder is dead, hands over what another should have. A holder that lives is
//! never robbed. While the API server is away nothing is planned and nothing moves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use connector_config::{KubernetesStore, MemberReport, Phase, ReportClass, annotation, label};
use iothub::PartitionId;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt, api::ListParams};
use rand::Rng;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Claim, ClaimError,
    lease::{ClaimRecord, Claims},
    observe::Observer,
    plan::{Candidate, Held, plan},
};
use crate::{
    identity::MemberId,
    ingress::{Readers, Survey},
    metrics::Metrics,
    report::{Part, Reporter, Trouble},
};

/// Between two looks. With the jitter this is half a list a second and pod.
const LOOK: Duration = Duration::from_millis(1500);
/// Between two looks while a partition is about to be handed over to us or is free, or a member seems to
/// be dead: devices wait for that. It takes ten seconds or so, and these are a few dozen lists.
const SOON: Duration = Duration::from_millis(300);
/// For so long: by then it is handed over, or its holder does not know of it and is not to be waited for.
const AWAITED: Duration = Duration::from_secs(15);
/// A member that drains goes on reading for so long: its Lease says so at once, and by then the others
/// have looked and wait for what it hands over.
const NOTICE: Duration = Duration::from_secs(3);
/// Keeps pods that started together from looking together.
const JITTER: Duration = Duration::from_millis(1000);
/// One list of the Leases.
const CALL: Duration = Duration::from_secs(5);

/// Takes and hands over claims.
pub struct Keeper {
    leases: Api<Lease>,
    claims: Claims,
    store: KubernetesStore,
    member: MemberId,
    pod_uid: String,
    partitions: BTreeSet<PartitionId>,
    observer: Observer,
    reporter: Reporter,
    lags: Lags,
    /// Since when a partition has been free or on its way to us.
    awaiting: Option<Instant>,
    /// Who may read, as of the last look.
    alive: watch::Sender<BTreeSet<MemberId>>,
}

/// Where the lag of partitions that nobody reads is told.
pub struct Lags {
    /// What the partitions hold.
    pub survey: Survey,
    /// Where it is shown.
    pub metrics: Metrics,
}

impl Lags {
    /// The reader of a partition tells its lag, so each pod tells of its own and of those without reader.
    fn tell(&self, partition: &PartitionId, record: Option<&ClaimRecord>, reads: bool) {
        if reads {
            return;
        }
        let held = record.is_some_and(|record| record.holder.is_some());
        match self.survey.of(partition).filter(|_| !held) {
            Some(seen) => {
                let mark = record.and_then(ClaimRecord::mark);
                self.metrics
                    .partition_lag(partition.as_str(), mark.as_ref(), &seen.properties);
            }
            None => self.metrics.no_lag(partition.as_str()),
        }
    }
}

struct Member {
    id: MemberId,
    version: String,
    connector_uid: String,
    /// It has joined the routing group and is not about to leave: what it gets it reads.
    running: bool,
    template: String,
    created: String,
    reads: Vec<PartitionId>,
}

impl Keeper {
    /// A keeper for `member`, over the partitions that the hub has. Tells `alive` who takes part.
    #[must_use]
    // Each is a thing of its own, named at the only call.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        leases: Api<Lease>,
        claims: Claims,
        store: KubernetesStore,
        member: MemberId,
        pod_uid: String,
        partitions: Vec<PartitionId>,
        reporter: Reporter,
        lags: Lags,
        alive: watch::Sender<BTreeSet<MemberId>>,
    ) -> Self {
        let partitions = partitions.into_iter().collect();
        let observer = Observer::default();
        Self {
            leases,
            claims,
            store,
            member,
            pod_uid,
            partitions,
            observer,
            reporter,
            lags,
            awaiting: None,
            alive,
        }
    }

    /// Keeps sharing until `shutdown`, then hands everything over.
    pub async fn run(mut self, mut readers: Readers, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let mut pause = LOOK + rand::rng().random_range(Duration::ZERO..JITTER);
            match self.look(&mut readers).await {
                Ok(()) => {
                    if self.is_awaiting() || self.observer.suspects(Instant::now()) {
                        pause = SOON;
                    }
                }
                Err(ClaimError::Unavailable(error)) => {
                    let message = format!("the Kubernetes API server cannot be used: {error}");
                    let trouble =
                        Trouble::new(ReportClass::Transient, "ApiServerUnreachable", message);
                    self.reporter.trouble(Part::Claims, trouble);
                }
                // Somebody else was faster; the next look shows it.
                Err(ClaimError::Lost) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
        let alone = self.alive.borrow().iter().all(|one| *one == self.member);
        if !alone {
            sleep(NOTICE).await;
        }
        readers.hand_over_all().await;
    }

    /// Whether a partition changes hands.
    fn is_awaiting(&self) -> bool {
        self.awaiting.is_some_and(|since| since.elapsed() < AWAITED)
    }

    async fn look(&mut self, readers: &mut Readers) -> Result<(), ClaimError> {
        // Of all connectors: another resource on the same consumer group must be seen, alive or dead.
        let selector = format!("{}={}", label::NAME, label::NAME_VALUE);
        let params = ListParams::default().labels(&selector);
        let listed = timeout(CALL, self.leases.list(&params))
            .await
            .map_err(|_| ClaimError::Unavailable("no answer in time".into()))?
            .map_err(|error| ClaimError::Unavailable(error.to_string()))?;
        let now = Instant::now();
        let members: Vec<Member> = listed.items.iter().filter_map(member).collect();
        let records: BTreeMap<PartitionId, ClaimRecord> = listed
            .items
            .iter()
            .filter_map(|lease| self.claims.read(lease))
            .map(|record| (record.partition.clone(), record))
            .collect();
        self.observer.look(
            now,
            members
                .iter()
                .map(|member| (member.id.clone(), member.version.clone())),
            records.values().filter_map(|record| record.holder.as_ref()),
        );
        if !members.iter().any(|member| member.id == self.member) {
            // Our own Lease is not there yet, or was deleted: others do not count on us.
            return Ok(());
        }
        if !self.observer.is_sound(&self.member, now) {
            // Go on with what we read; a plan made now would take everything from everybody, us included.
            return Ok(());
        }
        let planned = self.planned(&members, &records, now);
        let (mut trouble, mut awaiting) = (None, false);
        for partition in self.partitions.clone() {
            let mine = planned.get(&partition) == Some(&self.member);
            let reads = readers.reads(&partition);
            self.lags.tell(&partition, records.get(&partition), reads);
            if reads && !mine {
                readers.hand_over(&partition);
            }
            // Whoever is to take it may be leaving, and the plan another in a moment.
            awaiting |= !mine && records.get(&partition).is_some_and(ClaimRecord::is_free);
            if !mine && !reads {
                self.give_back(records.get(&partition)).await?;
            }
            if mine && !reads {
                match self.take(&partition, records.get(&partition), now).await {
                    Ok(Some(claim)) => readers.take(claim),
                    Ok(None) | Err(Refusal::Claim(ClaimError::Lost)) => awaiting = true,
                    Err(Refusal::Claim(error)) => return Err(error),
                    Err(Refusal::Duplicate(other)) => trouble = Some(other),
                }
            }
        }
        self.awaiting = awaiting.then(|| self.awaiting.unwrap_or(now));
        match trouble {
            Some(trouble) => self.reporter.trouble(Part::Claims, trouble),
            None => self.reporter.well(Part::Claims),
        }
        Ok(())
    }

    fn planned(
        &mut self,
        members: &[Member],
        records: &BTreeMap<PartitionId, ClaimRecord>,
        now: Instant,
    ) -> BTreeMap<PartitionId, MemberId> {
        // An earlier start of our own pod is over, whatever its Lease says: what it held is ours.
        let earlier: BTreeSet<&MemberId> = records
            .values()
            .filter(|record| self.is_of_our_pod(record))
            .filter_map(|record| record.holder.as_ref())
            .filter(|holder| **holder != self.member)
            .collect();
        // Our own report may not have been written yet; that we are here says the same.
        let alive: Vec<&Member> = members
            .iter()
            .filter(|member| member.connector_uid == self.store.connector_uid)
            .filter(|member| member.running || member.id == self.member)
            .filter(|member| !self.observer.is_dead(&member.id, now))
            .filter(|member| !earlier.contains(&member.id))
            .collect();
        // The template of the youngest member: hashes say nothing of age.
        let newest = alive
            .iter()
            .max_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
        let newest = newest
            .map(|member| member.template.clone())
            .unwrap_or_default();
        let candidates: Vec<Candidate> = alive
            .iter()
            .map(|member| Candidate {
                id: member.id.clone(),
                newest: member.template == newest,
            })
            .collect();
        // Whoever reads a partition whose claim was deleted makes it again, with its position.
        let unclaimed = alive.iter().flat_map(|member| {
            let reads = member.reads.iter();
            let unclaimed = reads.filter(|id| !records.contains_key(*id));
            unclaimed.map(|id| {
                let held = Held {
                    by: member.id.clone(),
                    moves: 0,
                };
                (id.clone(), held)
            })
        });
        let held = records
            .iter()
            .filter_map(|(id, record)| {
                let holder = record.holder.clone()?;
                let held = Held {
                    by: if earlier.contains(&holder) {
                        self.member.clone()
                    } else {
                        holder
                    },
                    moves: record.moves,
                };
                Some((id.clone(), held))
            })
            .chain(unclaimed)
            .collect();
        let alive = alive.iter().map(|member| member.id.clone()).collect();
        self.alive.send_if_modified(|known| {
            let new = *known != alive;
            *known = alive;
            new
        });
        plan(&candidates, &self.partitions, &held)
    }

    fn is_of_our_pod(&self, record: &ClaimRecord) -> bool {
        !self.pod_uid.is_empty() && record.holder_pod == self.pod_uid
    }

    /// Lets go of a claim that names us and is planned for another, if its reader has ended without that:
    /// the API server did not take the release, and the other would wait for it as long as we live.
    async fn give_back(&self, record: Option<&ClaimRecord>) -> Result<(), ClaimError> {
        match record {
            Some(record) if record.holder.as_ref() == Some(&self.member) => {
                match self.claims.give_back(record).await {
                    // The reader was faster; the next look shows it.
                    Err(ClaimError::Lost) => Ok(()),
                    done => done,
                }
            }
            _ => Ok(()),
        }
    }

    /// Claims a partition that is planned for us, if it is there to be claimed.
    async fn take(
        &self,
        partition: &PartitionId,
        record: Option<&ClaimRecord>,
        now: Instant,
    ) -> Result<Option<Box<dyn Claim>>, Refusal> {
        let Some(record) = record else {
            return Ok(Some(Box::new(self.claims.create(partition).await?)));
        };
        let free = match &record.holder {
            None => true,
            // We hold it and do not read it: an answer was lost, or our reader gave it up.
            Some(holder) if *holder == self.member => true,
            // An earlier start of this very pod: its process is gone.
            Some(_) if self.is_of_our_pod(record) => true,
            Some(holder) => self.observer.is_dead(holder, now),
        };
        if free {
            return Ok(Some(Box::new(self.claims.take(record).await?)));
        }
        match &record.holder {
            Some(holder) if record.connector_uid != self.store.connector_uid => {
                let message = format!(
                    "partition {} of this hub and consumer group is claimed by {holder} of another \
                     AzureIotHubConnector; give each its own iotHub.eventHubs.consumerGroup",
                    partition.as_str()
                );
                let trouble = Trouble::new(ReportClass::User, "DuplicateReader", message);
                Err(Refusal::Duplicate(trouble))
            }
            _ => Ok(None),
        }
    }
}

enum Refusal {
    Claim(ClaimError),
    Duplicate(Trouble),
}

impl From<ClaimError> for Refusal {
    fn from(error: ClaimError) -> Self {
        Self::Claim(error)
    }
}

fn member(lease: &Lease) -> Option<Member> {
    if lease.labels().get(label::COMPONENT).map(String::as_str) != Some(label::COMPONENT_MEMBER) {
        return None;
    }
    let report = lease.annotations().get(annotation::REPORT);
    let report: Option<MemberReport> = report.and_then(|text| serde_json::from_str(text).ok());
    Some(Member {
        id: MemberId::new(lease.spec.as_ref()?.holder_identity.clone()?),
        version: lease.resource_version().unwrap_or_default(),
        connector_uid: lease
            .annotations()
            .get(annotation::CONNECTOR_UID)
            .cloned()
            .unwrap_or_default(),
        running: report
            .as_ref()
            .is_some_and(|report| report.phase == Phase::Running),
        reads: report
            .iter()
            .flat_map(|report| &report.partitions)
            .map(|id| PartitionId::new(id.as_str()))
            .collect(),
        template: report
            .map(|report| report.pod_template_hash)
            .unwrap_or_default(),
        created: lease
            .creation_timestamp()
            .map(|time| time.0.to_string())
            .unwrap_or_default(),
    })
}
