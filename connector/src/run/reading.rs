//! Reading, wherever the hub's built-in endpoint is. One source of events and its claims at a time; when
//! the endpoint moves, what was read is settled and handed over, and reading begins anew at the new one.

use std::collections::BTreeSet;

use connector_config::StartPosition;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    endpoint::{Endpoint, Endpoints},
    stage::{Retry, until},
    store::{ClaimStore, Cluster, Store},
};
use crate::{
    claim::{self, Claim, Claims, Keeper, Lags, SoloClaim},
    identity::{Identity, MemberId},
    ingress::{Ingress, Readers, Survey},
    metrics::Metrics,
    report::{Part, Reporter},
};

/// What reads, but for the endpoint.
pub(super) struct Reading<'a, F> {
    pub(super) store: Store,
    pub(super) identity: &'a Identity,
    pub(super) endpoints: &'a Endpoints,
    /// Where the settings begin in a partition that has no checkpoint.
    pub(super) start: StartPosition,
    /// What the partitions of an endpoint are read with.
    pub(super) ingress: F,
    pub(super) metrics: &'a Metrics,
    pub(super) reporter: &'a Reporter,
    /// Where it is told who takes part.
    pub(super) members: &'a watch::Sender<BTreeSet<MemberId>>,
}

impl<F: Fn(&Endpoint, StartPosition, Survey) -> Ingress> Reading<'_, F> {
    /// Reads until `stop`, then hands everything over.
    pub(super) async fn run(&self, mut endpoint: Endpoint, stop: &CancellationToken) {
        let Some(mut start) = self.start(&endpoint, stop).await else {
            return;
        };
        while self.until_moved(&endpoint, start, stop).await {
            self.metrics.endpoint_moves.inc();
            let retry = Retry {
                reporter: self.reporter,
                part: Part::Hub,
            };
            let Some(next) = until(stop, retry, || self.endpoints.find()).await else {
                return;
            };
            tracing::warn!(
                from = ?endpoint.source.identity(), to = ?next.source.identity(),
                "reading goes on at the endpoint that the hub has moved to, at its oldest event"
            );
            self.reporter.partitions_total(next.partitions.len());
            endpoint = next;
            // "Latest" would skip what has come there since the hub moved.
            start = StartPosition::Earliest;
        }
    }

    /// Reads at one endpoint until `stop`, or until it has moved: gives whether it has.
    async fn until_moved(
        &self,
        endpoint: &Endpoint,
        start: StartPosition,
        stop: &CancellationToken,
    ) -> bool {
        let stop_here = stop.child_token();
        let (source, partitions) = (endpoint.source.clone(), endpoint.partitions.clone());
        let survey = Survey::start(source, partitions, stop_here.clone());
        let ingress = (self.ingress)(endpoint, start, survey.clone());
        let readers = Readers::new(ingress, self.store.blobs.clone());
        let reading = self.read(endpoint, readers, survey, stop_here.clone());
        tokio::pin!(reading);
        tokio::select! {
            () = &mut reading => return false,
            () = self.endpoints.moved(endpoint) => {}
        }
        stop_here.cancel();
        reading.await;
        true
    }

    /// Where to begin in a partition that has no checkpoint. Whoever has read another endpoint begins at
    /// the oldest event, whatever the settings say: the hub may have moved while nobody was running.
    async fn start(&self, endpoint: &Endpoint, stop: &CancellationToken) -> Option<StartPosition> {
        if self.start == StartPosition::Earliest {
            return Some(StartPosition::Earliest);
        }
        let source = endpoint.source.identity();
        let elsewhere = match &self.store.claims {
            ClaimStore::Kubernetes(cluster) => {
                let claims = self.claims(cluster, endpoint);
                let retry = Retry {
                    reporter: self.reporter,
                    part: Part::Claims,
                };
                until(stop, retry, || claims.are_elsewhere()).await?
            }
            ClaimStore::File(store) => store.is_elsewhere(source),
            // Positions in blobs are found by their endpoint alone.
            ClaimStore::Solo => false,
        };
        if !elsewhere {
            return Some(self.start);
        }
        tracing::warn!(
            ?source,
            "this connector has read another endpoint: starting at the oldest event"
        );
        Some(StartPosition::Earliest)
    }

    fn claims(&self, cluster: &Cluster, endpoint: &Endpoint) -> Claims {
        Claims::new(
            cluster.leases.clone(),
            cluster.store.clone(),
            endpoint.source.identity().clone(),
            self.identity,
        )
    }

    /// Shares the partitions of one endpoint and reads them until `stop`.
    async fn read(
        &self,
        endpoint: &Endpoint,
        readers: Readers,
        survey: Survey,
        stop: CancellationToken,
    ) {
        let partitions = endpoint.partitions.clone();
        match &self.store.claims {
            ClaimStore::Kubernetes(cluster) => {
                let keeper = Keeper::new(
                    cluster.leases.clone(),
                    self.claims(cluster, endpoint),
                    cluster.store.clone(),
                    self.identity.member(),
                    self.identity.pod_uid.clone(),
                    partitions,
                    self.reporter.clone(),
                    Lags {
                        survey,
                        metrics: self.metrics.clone(),
                    },
                    self.members.clone(),
                );
                keeper.run(readers, stop).await;
            }
            ClaimStore::File(store) => {
                let claims = partitions.into_iter().map(|partition| {
                    Box::new(store.claim(endpoint.source.identity(), partition)) as Box<dyn Claim>
                });
                claim::read_all(claims, readers, stop).await;
            }
            ClaimStore::Solo => {
                let claims = partitions
                    .into_iter()
                    .map(|partition| Box::new(SoloClaim::new(partition)) as Box<dyn Claim>);
                claim::read_all(claims, readers, stop).await;
            }
        }
    }
}
