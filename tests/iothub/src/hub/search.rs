//! What queries find.

use std::ops::Bound;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    document,
    identity::Identity,
    query::{Query, Selection, Source},
};

use super::Hub;

/// Where the next page begins: behind this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Place {
    /// A result of a job: its number in the list of all.
    Result(usize),
    /// A twin: device, and module.
    Twin(String, Option<String>),
}

/// A page of what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What it has.
    pub items: Vec<Value>,
    /// Where the next one begins, if there may be more.
    pub next: Option<Place>,
}

impl Hub {
    /// Up to `most` of what a query finds, behind `after`.
    #[must_use]
    pub fn find(&self, query: &Query, after: Option<Place>, most: usize) -> Found {
        let mut documents: Box<dyn Iterator<Item = (Place, Value)>> = match query.source {
            Source::Jobs => {
                let skipped = match after {
                    Some(Place::Result(last)) => last + 1,
                    Some(Place::Twin(..)) | None => 0,
                };
                let results = self.jobs().results().into_iter().enumerate().skip(skipped);
                Box::new(results.map(|(number, result)| (Place::Result(number), result)))
            }
            Source::Devices | Source::Modules => {
                let twins = self.twins(query, after, most);
                Box::new(twins.into_iter())
            }
        };
        if let Selection::Count(name) = &query.selection {
            let total = documents
                .filter(|(_, one)| query.condition.holds(one))
                .count();
            return Found {
                items: vec![json!({ name: total })],
                next: None,
            };
        }
        let (mut items, mut last) = (Vec::new(), None);
        for (place, document) in documents.by_ref() {
            if !query.condition.holds(&document) {
                continue;
            }
            items.extend(query.select(document));
            last = Some(place);
            if items.len() >= most {
                break;
            }
        }
        // A page that is just full may be the last: then the next one is empty, as the hub's may be.
        let next = last.filter(|_| items.len() >= most);
        Found { items, next }
    }

    /// Twins that a query finds; of one that counts all of them, else no more than a page.
    fn twins(&self, query: &Query, after: Option<Place>, most: usize) -> Vec<(Place, Value)> {
        let from = match after {
            Some(Place::Twin(device, module)) => Identity::new(&device, module.as_deref()).ok(),
            Some(Place::Result(_)) | None => None,
        };
        let from = from.map_or(Bound::Unbounded, Bound::Excluded);
        let most = match query.selection {
            Selection::Count(_) => usize::MAX,
            Selection::Whole | Selection::Parts(_) => most,
        };
        let modules = query.source == Source::Modules;
        let identities = self.identities();
        let all = identities.range((from, Bound::Unbounded));
        all.filter(|(identity, _)| identity.module_id().is_some() == modules)
            .map(|(identity, registered)| {
                let place = Place::Twin(
                    identity.device_id().to_owned(),
                    identity.module_id().map(str::to_owned),
                );
                (
                    place,
                    document::twin(&registered.view(identity), &registered.twin),
                )
            })
            .filter(|(_, document)| query.condition.holds(document))
            .take(most)
            .collect()
    }

    /// All identities that a query finds.
    pub(super) fn targets(&self, query: &Query) -> Vec<Identity> {
        let twins = self.twins(query, None, usize::MAX);
        let identity = |(place, _)| match place {
            Place::Twin(device, module) => Identity::new(&device, module.as_deref()).ok(),
            Place::Result(_) => None,
        };
        twins.into_iter().filter_map(identity).collect()
    }
}
