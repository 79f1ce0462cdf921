//! A hub on free ports, and the ways to it.

use std::{sync::Arc, time::Duration};

use iothub::{HubAmqpSettings, HubConnectionString, HubRest, HubRestSettings, HubTls, Way};
use iothub_standin::{
    Addresses, Running, Settings,
    fault::Fault,
    hub::{self, Change, DeviceSession, Etag, HubSettings},
    identity::Identity,
    meter::Count,
    operation::Operation,
    policy::Policies,
    run, tls,
};
use tokio_util::sync::{CancellationToken, DropGuard};

const KEY: &str = "c2VjcmV0";
const HOST: &str = "localhost";
/// Longer than any test; faults are cleared, or end with their hub.
pub const LONG: f64 = 600.0;

pub struct Hub {
    running: Running,
    ca: String,
    _end: DropGuard,
}

impl Hub {
    pub async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let (ca, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let policy = |text: &str| text.parse().unwrap();
        let free = "127.0.0.1:0".parse().unwrap();
        let settings = Settings {
            hub: HubSettings {
                name: HOST.into(),
                hosts: vec![HOST.into()],
                event_hub: "telemetry".into(),
                partitions: 2,
                consumer_groups: Vec::new(),
                retention: 100,
                policies: Policies(vec![
                    policy(&format!("owner:{KEY}:all")),
                    policy(&format!("service:{KEY}:ServiceConnect")),
                    policy(&format!("reader:{KEY}:RegistryRead")),
                ]),
                redirect: Vec::new(),
                routes: Vec::new(),
                feedback_every: Duration::from_millis(50),
            },
            addresses: Addresses {
                mqtt: free,
                hub_amqp: free,
                events_amqp: free,
                events_plain: None,
                https: free,
                events_https: None,
                control: free,
            },
            tls: tls::from_pem(ca.as_bytes(), key.as_bytes()).unwrap(),
        };
        let shutdown = CancellationToken::new();
        let running = run(settings, shutdown.clone()).await.unwrap();
        let _end = shutdown.drop_guard();
        Self { running, ca, _end }
    }

    pub fn connection(policy: &str) -> HubConnectionString {
        let text = format!("HostName={HOST};SharedAccessKeyName={policy};SharedAccessKey={KEY}");
        text.parse().unwrap()
    }

    pub fn tls(&self) -> HubTls {
        HubTls {
            ca: Some(self.ca.clone().into()),
        }
    }

    pub fn rest(&self, policy: &str) -> HubRest {
        HubRest::new(HubRestSettings {
            connection: Self::connection(policy),
            tls: self.tls(),
            address: Some(self.running.addresses.https.to_string()),
            proxy: None,
        })
        .unwrap()
    }

    pub fn amqp(&self, policy: &str) -> HubAmqpSettings {
        HubAmqpSettings {
            connection: Self::connection(policy),
            tls: self.tls(),
            application_id: "test".into(),
            address: Some(self.running.addresses.hub_amqp.to_string()),
            way: Way::default(),
        }
    }

    pub fn owner(&self) -> HubRest {
        self.rest("owner")
    }

    pub fn inside(&self) -> &Arc<hub::Hub> {
        &self.running.hub
    }

    pub fn fault(&self, fault: &Fault) {
        self.inside().inject(fault);
    }

    /// Carries out, and answers nothing.
    pub fn lose(&self, operation: Operation) {
        self.fault(&Fault::LoseAnswers {
            operation,
            seconds: LONG,
            count: None,
        });
    }

    pub fn count(&self, operation: Operation) -> Count {
        self.inside().meter.counts()[&operation]
    }

    /// Registers a device, or a module of one that is registered.
    pub fn register(&self, device: &str, module: Option<&str>) -> Identity {
        let identity = Identity::new(device, module).unwrap();
        let made = self
            .inside()
            .put(&identity, Change::default(), &Etag::Absent);
        made.unwrap();
        identity
    }

    pub fn connect(&self, identity: &Identity) -> DeviceSession {
        self.inside().start_session(identity, true).unwrap()
    }
}

/// Waits until something is there.
pub async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking)
        .await
        .unwrap()
}
