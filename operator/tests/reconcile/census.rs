//! How many pods of a connector serve, from every event of its pods: no moment is missed between two looks.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use connector_config::label;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::ListParams,
    runtime::watcher::{self, Event, watcher},
};

use crate::{
    plant::{NAME, Plant},
    pods::serves,
    wait::eventually,
};

#[derive(Default)]
struct Counts {
    all: BTreeSet<String>,
    serving: BTreeSet<String>,
    least: usize,
    most: usize,
}

/// Counts from its beginning on.
pub struct Census {
    api: Api<Pod>,
    counts: Arc<Mutex<Counts>>,
}

fn pods() -> String {
    format!("{}={NAME}", label::INSTANCE)
}

impl Census {
    /// Begins once as many pods as are wanted serve.
    pub async fn begin(plant: &Plant, wanted: usize) -> Self {
        let api: Api<Pod> = Api::namespaced(plant.client.clone(), &plant.namespace);
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (seen, watched) = (Arc::clone(&counts), api.clone());
        tokio::spawn(async move {
            let config = watcher::Config::default().labels(&pods());
            let mut events = std::pin::pin!(watcher(watched, config));
            while let Some(event) = events.next().await {
                let mut counts = seen.lock().unwrap();
                match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => counts.see(&pod),
                    Ok(Event::Delete(pod)) => counts.gone(&pod),
                    Ok(Event::Init | Event::InitDone) | Err(_) => {}
                }
            }
        });
        let census = Self { api, counts };
        census.agrees(wanted).await;
        let mut counts = census.counts.lock().unwrap();
        (counts.least, counts.most) = (counts.serving.len(), counts.all.len());
        drop(counts);
        census
    }

    /// Waits until the census has seen what there is, which is `wanted` pods that serve and no other.
    async fn agrees(&self, wanted: usize) {
        let promise = format!("{wanted} pods serve, and no other is there");
        eventually(&promise, async || {
            let listed = self.api.list(&ListParams::default().labels(&pods())).await;
            let listed = listed.map_err(|error| error.to_string())?;
            let there: BTreeSet<_> = listed.iter().map(name).collect();
            let counts = self.counts.lock().unwrap();
            match there == counts.all && counts.serving == there && there.len() == wanted {
                true => Ok(()),
                false => Err(format!("{there:?}, of which {:?} serve", counts.serving)),
            }
        })
        .await;
    }

    /// The fewest that served at a time and the most that were there, once things are as `wanted` again.
    pub async fn extremes(&self, wanted: usize) -> (usize, usize) {
        self.agrees(wanted).await;
        let counts = self.counts.lock().unwrap();
        (counts.least, counts.most)
    }

    /// The pods that serve now.
    pub fn serving(&self) -> BTreeSet<String> {
        self.counts.lock().unwrap().serving.clone()
    }

    /// How many are there now.
    pub fn there(&self) -> usize {
        self.counts.lock().unwrap().all.len()
    }
}

impl Counts {
    fn see(&mut self, pod: &Pod) {
        self.all.insert(name(pod));
        match serves(pod) {
            true => self.serving.insert(name(pod)),
            false => self.serving.remove(&name(pod)),
        };
        self.note();
    }

    fn gone(&mut self, pod: &Pod) {
        self.all.remove(&name(pod));
        self.serving.remove(&name(pod));
        self.note();
    }

    fn note(&mut self) {
        self.least = self.least.min(self.serving.len());
        self.most = self.most.max(self.all.len());
    }
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}
