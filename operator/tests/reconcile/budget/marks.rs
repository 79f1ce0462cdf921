//! When objects come to carry a mark, as a watch tells.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::{
    Api,
    api::DynamicObject,
    runtime::watcher::{self, Event, watcher},
};
use operator::desired::ChildKind;
use tokio::sync::watch;

use crate::plant::Plant;

/// Far more than any figure: what takes longer is broken and not slow.
const PATIENCE: Duration = Duration::from_secs(600);

/// Objects by name with their mark and when it was first seen, and how many carry each.
#[derive(Default)]
struct Seen {
    marks: HashMap<String, (String, Instant)>,
    counts: BTreeMap<String, usize>,
}

impl Seen {
    fn set(&mut self, name: String, mark: String) {
        let before = self.marks.get(&name);
        if before.is_some_and(|(before, _)| *before == mark) {
            return;
        }
        *self.counts.entry(mark.clone()).or_default() += 1;
        if let Some((before, _)) = self.marks.insert(name, (mark, Instant::now())) {
            *self.counts.entry(before).or_default() -= 1;
        }
    }
}

/// Watches the marks of one kind.
pub struct Marks(watch::Receiver<Seen>);

impl Marks {
    /// Marks of Deployments.
    pub fn of_children(plant: &Plant) -> Self {
        let mark = "/spec/template/spec/nodeSelector/mark";
        Self::of(plant.children(ChildKind::Deployment), move |found| {
            Some(found.data.pointer(mark)?.as_str()?.to_owned())
        })
    }

    /// Marks of connectors whose status is of the spec that holds the mark.
    pub fn of_answers(plant: &Plant) -> Self {
        Self::of(plant.untyped(), |found| {
            let answered = found.data["status"]["observedGeneration"].as_i64();
            let mark = found
                .data
                .pointer("/spec/pod/nodeSelector/mark")?
                .as_str()?;
            (answered == found.metadata.generation).then(|| mark.to_owned())
        })
    }

    fn of(
        api: Api<DynamicObject>,
        mark: impl Fn(&DynamicObject) -> Option<String> + Send + 'static,
    ) -> Self {
        let (sender, receiver) = watch::channel(Seen::default());
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                let Ok(Event::Apply(found) | Event::InitApply(found)) = event else {
                    continue;
                };
                if let Some(mark) = mark(&found) {
                    let name = found.metadata.name.unwrap_or_default();
                    sender.send_modify(|seen| seen.set(name, mark));
                }
            }
        });
        Self(receiver)
    }

    /// Waits until so many objects carry the mark.
    pub async fn all(&mut self, mark: &str, size: usize) {
        let carry = |seen: &Seen| seen.counts.get(mark) == Some(&size);
        let waited = tokio::time::timeout(PATIENCE, self.0.wait_for(carry)).await;
        assert!(waited.is_ok(), "broken: {size} are marked {mark}");
    }

    /// Waits until this object carries the mark; says since when.
    pub async fn one(&mut self, name: &str, mark: &str) -> Instant {
        let carries = |seen: &Seen| seen.marks.get(name).is_some_and(|(is, _)| is == mark);
        let waited = tokio::time::timeout(PATIENCE, self.0.wait_for(carries)).await;
        waited.unwrap().unwrap().marks[name].1
    }
}
