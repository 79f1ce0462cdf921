//! An operator that runs in this process, by its own `run`.

use clap::Parser;
use kube::Client;
use operator::{
    args::Arguments,
    client,
    run::{self, RunError},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{control_plane::ControlPlane, probe::Probe, proxy::Proxy};

/// A running operator and its way to the API server.
pub struct Instance {
    pub proxy: Proxy,
    pub probe: Probe,
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
    namespaces: Vec<String>,
    election: Election,
    words: Vec<String>,
}

/// Whether an operator stands for election, in the first of its namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// It is alone and writes at once.
    Without,
    /// It writes while it holds the Lease.
    With,
}

impl Instance {
    /// Starts an operator over these namespaces that has the rights of `user`.
    pub async fn start(plane: &ControlPlane, user: &str, namespaces: &[String]) -> Self {
        Self::behind(Proxy::new(plane, user).await, plane, namespaces).await
    }

    /// Starts one of several.
    pub async fn candidate(plane: &ControlPlane, user: &str, namespaces: &[String]) -> Self {
        let proxy = Proxy::new(plane, user).await;
        Self::standing(Election::With, proxy, plane, namespaces, &[]).await
    }

    /// Starts an operator behind a proxy that may make faults already.
    pub async fn behind(proxy: Proxy, plane: &ControlPlane, namespaces: &[String]) -> Self {
        Self::told(&[], proxy, plane, namespaces).await
    }

    /// The same, with more words on its command line.
    pub async fn told(
        words: &[String],
        proxy: Proxy,
        plane: &ControlPlane,
        namespaces: &[String],
    ) -> Self {
        Self::standing(Election::Without, proxy, plane, namespaces, words).await
    }

    async fn standing(
        election: Election,
        proxy: Proxy,
        plane: &ControlPlane,
        namespaces: &[String],
        more: &[String],
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = Probe(listener.local_addr().unwrap());
        let mut words = vec!["operator".to_owned()];
        words.extend(
            namespaces
                .iter()
                .map(|name| format!("--watch-namespace={name}")),
        );
        words.push(format!("--leader-elect={}", election == Election::With));
        words.extend(
            namespaces
                .first()
                .map(|name| format!("--lease-namespace={name}")),
        );
        words.extend_from_slice(more);
        let args = Arguments::parse_from(words).operator;
        let client = Client::try_from(client::tuned(plane.config(&proxy.url))).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(run::run_with(client, listener, args, stopped));
        Self {
            proxy,
            probe,
            stop,
            task,
            namespaces: namespaces.to_vec(),
            election,
            words: more.to_vec(),
        }
    }

    /// Whether it has ended by itself.
    pub fn ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until the operator says that it knows the cluster.
    pub async fn ready(self) -> Self {
        self.probe.ready().await;
        self
    }

    /// Ends it as a signal does.
    pub async fn stop(self) -> Proxy {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.proxy
    }

    /// Ends it in the middle of whatever it does.
    pub async fn crash(self) -> Proxy {
        self.task.abort();
        let _ = self.task.await;
        self.proxy
    }

    /// Another process in its place: nothing is remembered.
    pub async fn restart(self, plane: &ControlPlane) -> Self {
        let namespaces = self.namespaces.clone();
        let (election, words) = (self.election, self.words.clone());
        Self::standing(election, self.crash().await, plane, &namespaces, &words).await
    }

    /// The sum of a metric over all its labels that contain `with`. The name is whole, or one of the operator's
    /// own without its prefix.
    pub async fn metric(&self, name: &str, with: &str) -> f64 {
        self.probe.metric(name, with).await
    }

    /// What it answers on its port.
    pub async fn get(&self, path: &str) -> (u16, String) {
        self.probe.get(path).await
    }
}
