//! How a rollout goes, from every event of a connector's pods and `ReplicaSet`s: no moment is missed between
//! two looks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, Mutex},
};

use futures::StreamExt;
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{
    Api, Resource, ResourceExt,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;

use crate::{
    plant::{NAME, Plant, of},
    pods::serves,
    wait::eventually,
};

#[derive(Default)]
struct Counts {
    all: BTreeSet<String>,
    serving: BTreeSet<String>,
    /// Pods that each `ReplicaSet` is to have.
    asked: BTreeMap<String, i32>,
    least: usize,
    most: i32,
}

/// Counts from its beginning on.
pub struct Census {
    pods: Api<Pod>,
    sets: Api<ReplicaSet>,
    counts: Arc<Mutex<Counts>>,
}

impl Census {
    /// Begins once as many pods as are wanted serve.
    pub async fn begin(plant: &Plant, wanted: usize) -> Self {
        let census = Self {
            pods: Api::namespaced(plant.client.clone(), &plant.namespace),
            sets: Api::namespaced(plant.client.clone(), &plant.namespace),
            counts: Arc::default(),
        };
        census.follow(&census.pods, Counts::pod);
        census.follow(&census.sets, Counts::set);
        census.agrees(wanted).await;
        let mut counts = census.counts.lock().unwrap();
        (counts.least, counts.most) = (counts.serving.len(), counts.asked.values().sum());
        drop(counts);
        census
    }

    /// Notes every event of a kind: the object by its name, or that it is gone.
    fn follow<K>(&self, api: &Api<K>, note: fn(&mut Counts, String, Option<&K>))
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let config = watcher::Config::default().labels(&of(NAME).label_selector.unwrap());
        let (events, counts) = (watcher(api.clone(), config), Arc::clone(&self.counts));
        tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                let mut counts = counts.lock().unwrap();
                match event {
                    Ok(Event::Apply(is) | Event::InitApply(is)) => {
                        note(&mut counts, is.name_any(), Some(&is));
                    }
                    Ok(Event::Delete(was)) => note(&mut counts, was.name_any(), None),
                    Ok(Event::Init | Event::InitDone) | Err(_) => {}
                }
            }
        });
    }

    /// Waits until the census has seen what there is, which is `wanted` pods that serve and no other.
    async fn agrees(&self, wanted: usize) {
        let promise = format!("{wanted} pods serve, and no other is there");
        eventually(&promise, async || {
            let pods = self.pods.list(&of(NAME)).await;
            let pods = pods.map_err(|error| error.to_string())?;
            let sets = self.sets.list(&of(NAME)).await;
            let sets = sets.map_err(|error| error.to_string())?;
            let there: BTreeSet<_> = pods.iter().map(ResourceExt::name_any).collect();
            let asked = sets.iter().map(|set| (set.name_any(), asked(set)));
            let asked: BTreeMap<_, _> = asked.collect();
            let counts = self.counts.lock().unwrap();
            let seen = there == counts.all && counts.serving == there && asked == counts.asked;
            match seen && there.len() == wanted {
                true => Ok(()),
                false => Err(format!(
                    "{there:?}, of which {:?} serve; {asked:?} are asked for",
                    counts.serving
                )),
            }
        })
        .await;
    }

    /// The fewest pods that served at a time and the most that were asked for, once things are as `wanted`
    /// again. Not the most that were there: the deployment controller goes by what it has asked for, and asks
    /// for the next pod before the one whose place it takes is deleted (`NewRSNewReplicas` in
    /// `pkg/controller/deployment/util/deployment_util.go` of Kubernetes).
    pub async fn extremes(&self, wanted: usize) -> (usize, usize) {
        self.agrees(wanted).await;
        let counts = self.counts.lock().unwrap();
        (counts.least, usize::try_from(counts.most).unwrap())
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
    fn pod(&mut self, name: String, pod: Option<&Pod>) {
        match pod {
            Some(_) => self.all.insert(name.clone()),
            None => self.all.remove(&name),
        };
        match pod.is_some_and(serves) {
            true => self.serving.insert(name),
            false => self.serving.remove(&name),
        };
        self.least = self.least.min(self.serving.len());
    }

    fn set(&mut self, name: String, set: Option<&ReplicaSet>) {
        match set {
            Some(set) => self.asked.insert(name, asked(set)),
            None => self.asked.remove(&name),
        };
        self.most = self.most.max(self.asked.values().sum());
    }
}

fn asked(set: &ReplicaSet) -> i32 {
    let spec = set.spec.as_ref();
    spec.and_then(|spec| spec.replicas).unwrap_or_default()
}
