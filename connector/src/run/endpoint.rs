//! The hub's built-in endpoint: as the settings give it, or as the hub itself tells it; and whether it is
//! still the one. When the hub fails over to another region, its endpoint gets another name.

use std::{sync::Arc, time::Duration};

use connector_config::ReportClass;
use iothub::{
    BuiltInEndpoint, EventHubsConnectionString, EventSource, HubAmqpSettings, HubError,
    PartitionId, SdkSource, SdkSourceSettings, SourceIdentity, Transport, built_in_endpoint,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    hub::{PROOF, Unproven},
    watched::{Health, Watched},
};
use crate::report::{Part, Reporter, Trouble};

/// While the endpoint cannot be read the hub is asked again after this: a fail-over takes minutes, and a
/// question is one connection.
const AGAIN: Duration = Duration::from_secs(30);
/// An endpoint that only gives no events any more shows within this, at six connections an hour and pod.
const ROUTINE: Duration = Duration::from_secs(600);
/// How long a move is told in the report: long enough to be found by whoever looks into a gap.
const TOLD: Duration = Duration::from_secs(3600);

const FINDING: &str = "finding the built-in endpoint (iotHub.connectionString)";
const READING: &str = "reading telemetry (iotHub.eventHubs)";

/// Where the built-in endpoint is looked for.
pub(super) struct Endpoints {
    /// The hub, which knows.
    hub: HubAmqpSettings,
    /// What the settings say.
    given: Option<EventHubsConnectionString>,
    consumer_group: String,
    reporter: Reporter,
}

/// The built-in endpoint, proven to be readable.
pub(super) struct Endpoint {
    pub(super) source: Arc<dyn EventSource>,
    pub(super) partitions: Vec<PartitionId>,
    health: watch::Receiver<Health>,
    found: Instant,
}

impl Endpoints {
    pub(super) fn new(
        hub: HubAmqpSettings,
        given: Option<EventHubsConnectionString>,
        consumer_group: String,
        reporter: Reporter,
    ) -> Self {
        Self {
            hub,
            given,
            consumer_group,
            reporter,
        }
    }

    /// Finds the endpoint and proves that it can be read.
    pub(super) async fn find(&self) -> Result<Endpoint, Unproven> {
        let BuiltInEndpoint {
            connection,
            custom_endpoint,
        } = match &self.given {
            Some(connection) => BuiltInEndpoint {
                connection: connection.clone(),
                custom_endpoint: None,
            },
            None => built_in_endpoint(&self.hub)
                .await
                .map_err(|error| Unproven::Hub {
                    what: FINDING,
                    error,
                })?,
        };
        // WebSockets go to the port of HTTPS, wherever AMQP by itself would go.
        let custom_endpoint = custom_endpoint.filter(|_| self.hub.way.transport == Transport::Amqp);
        let custom_endpoint = elsewhere().or(custom_endpoint);
        let source = SdkSource::new(SdkSourceSettings {
            connection,
            consumer_group: self.consumer_group.clone(),
            application_id: self.hub.application_id.clone(),
            tls: self.hub.tls.clone(),
            way: self.hub.way.clone(),
            custom_endpoint,
            request_timeout: PROOF,
        })
        .map_err(|error| Unproven::Hub {
            what: READING,
            error,
        })?;
        let listed = timeout(PROOF, source.partitions())
            .await
            .unwrap_or_else(|_| {
                Err(HubError::TimedOut {
                    what: "the list of partitions".into(),
                })
            });
        let partitions = match listed {
            Ok(partitions) => partitions,
            Err(error) => return Err(self.unproven(source.identity(), error).await),
        };
        let (source, health) = Watched::new(Arc::new(source));
        Ok(Endpoint {
            source: Arc::new(source),
            partitions,
            health,
            found: Instant::now(),
        })
    }

    /// Why an endpoint cannot be read: a given one may be the hub's no more.
    async fn unproven(&self, known: &SourceIdentity, error: HubError) -> Unproven {
        let moved = match &self.given {
            Some(_) => self.doubt(known).await,
            None => None,
        };
        match moved {
            Some(trouble) => Unproven::Moved(trouble),
            None => Unproven::Hub {
                what: READING,
                error,
            },
        }
    }

    /// Waits until the hub tells of another endpoint than `now`, and reports it. Where the settings give
    /// the endpoint, it is reported while it cannot be read, and this never ends: they must be changed.
    pub(super) async fn moved(&self, now: &Endpoint) {
        let mut health = now.health.clone();
        let mut asked = None;
        loop {
            let doubtful = health.borrow_and_update().doubtful_from();
            if doubtful.is_none() && (self.given.is_some() || now.found.elapsed() >= TOLD) {
                self.reporter.well(Part::Endpoint);
            }
            let again = asked.map(|asked| asked + AGAIN);
            let ask_at = match (doubtful, &self.given) {
                (Some(from), _) => again.map_or(from, |again| from.max(again)),
                (None, None) => asked.unwrap_or(now.found) + ROUTINE,
                (None, Some(_)) => {
                    // The source lives as long as the endpoint.
                    let _ = health.changed().await;
                    continue;
                }
            };
            tokio::select! {
                () = sleep_until(ask_at) => {}
                _ = health.changed() => continue,
            }
            asked = Some(Instant::now());
            if let Some(trouble) = self.doubt(now.source.identity()).await {
                self.reporter.trouble(Part::Endpoint, trouble);
                if self.given.is_none() {
                    return;
                }
            }
        }
    }

    /// Asks the hub for its endpoint; what to say if it is another than `known`.
    async fn doubt(&self, known: &SourceIdentity) -> Option<Trouble> {
        match built_in_endpoint(&self.hub).await {
            Ok(told) => self.compare(known, &told.connection),
            Err(error) => {
                tracing::info!(%error, "the hub does not tell where its built-in endpoint is");
                None
            }
        }
    }

    fn compare(&self, known: &SourceIdentity, told: &EventHubsConnectionString) -> Option<Trouble> {
        let SourceIdentity { namespace, hub, .. } = known;
        let EventHubsConnectionString {
            namespace: host,
            entity,
            ..
        } = told;
        if namespace.eq_ignore_ascii_case(host) && hub.eq_ignore_ascii_case(entity) {
            return None;
        }
        let (class, advice) = match &self.given {
            Some(_) => (
                ReportClass::User,
                "correct iotHub.eventHubs.connectionString, or leave it out: then the hub is asked",
            ),
            None => (
                ReportClass::Transient,
                "what was not read before is lost; all that has come since is read",
            ),
        };
        // The advice first: a report is cut when it is long.
        let message = format!(
            "the hub's built-in endpoint has moved; {advice}. It is {host}/{entity}, not \
             {namespace}/{hub}"
        );
        Some(Trouble::new(class, "HubEndpointMoved", message))
    }
}

/// Where a bench wants the built-in endpoint to be read instead, such as `amqp://127.0.0.1:5672`: what TLS
/// costs can only be told beside a reader without it. Not a setting, since it would put a token on the
/// line in the clear.
fn elsewhere() -> Option<String> {
    let endpoint = std::env::var("AZURE_IOT_EVENTS_ENDPOINT").ok()?;
    tracing::warn!(
        endpoint,
        "AZURE_IOT_EVENTS_ENDPOINT is set: for measurements only"
    );
    Some(endpoint)
}
