//! The difference between what should be and what is, as writes.

mod difference;

use kube::Resource;

pub use difference::Known;

use crate::{
    desired::{Child, ChildKind, Owner},
    observe::{Observed, controller},
};

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Action<'a> {
    /// The object is not known to exist.
    Create(&'a Child),
    /// The object of this uid is not as it should be.
    Update {
        /// As it should be.
        child: &'a Child,
        /// The object that is meant, and none that took its name since.
        uid: String,
        /// Pods that run are replaced.
        replaces_pods: bool,
    },
    /// Another number of pods, all else as it is.
    Scale {
        /// Name of the Deployment.
        name: String,
        /// Its uid.
        uid: String,
        /// Pods wanted.
        replicas: i32,
    },
    /// Settings that no pod mounts any more.
    DeleteSettings {
        /// Name of the `ConfigMap`.
        name: String,
        /// Its uid.
        uid: String,
    },
}

impl Action<'_> {
    /// Kind of the object that is written.
    #[must_use]
    pub fn kind(&self) -> ChildKind {
        match self {
            Self::Create(child) | Self::Update { child, .. } => child.kind,
            Self::Scale { .. } => ChildKind::Deployment,
            Self::DeleteSettings { .. } => ChildKind::ConfigMap,
        }
    }

    /// Whether pods that run are replaced.
    #[must_use]
    pub fn replaces_pods(&self) -> bool {
        matches!(
            self,
            Self::Update {
                replaces_pods: true,
                ..
            }
        )
    }
}

/// An object that the connector needs, and that is not its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// It belongs to somebody else.
    #[error(
        "{} {name} exists and does not belong to this connector{}; delete or rename it, or give the \
         connector another name", kind.as_str(), owner.as_deref().map(|owner| format!(" but to {owner}")).unwrap_or_default()
    )]
    Foreign {
        /// Kind of the object.
        kind: ChildKind,
        /// Its name.
        name: String,
        /// Kind and name of its controller, if it has one.
        owner: Option<String>,
    },
    /// It belongs to a deleted resource of the same name and will go by itself.
    #[error("{} {name} of the deleted connector of this name is still going", kind.as_str())]
    Going {
        /// Kind of the object.
        kind: ChildKind,
        /// Its name.
        name: String,
    },
}

/// The writes that lead from what is to what should be; none if all is well. `known` spares looking at what
/// has not changed, and changes nothing else.
///
/// # Errors
/// [`Conflict`] if an object of a needed name is not this connector's: then nothing is written, because
/// pods would run with somebody else's settings or rights.
pub fn plan<'a>(
    owner: &Owner,
    children: &'a [Child],
    observed: &Observed,
    known: &mut Known,
) -> Result<Vec<Action<'a>>, Conflict> {
    let mut actions = Vec::new();
    for child in children {
        let Some(live) = observed.children.get(&(child.kind, child.name.clone())) else {
            actions.push(Action::Create(child));
            continue;
        };
        check(owner, child, &**live)?;
        if let Some(difference) = difference::difference(child, live, known) {
            actions.push(Action::Update {
                child,
                uid: live.meta().uid.clone().unwrap_or_default(),
                replaces_pods: difference.replaces_pods,
            });
        }
    }
    known.retain(children);
    // Only when the Deployment is known to name the new settings: before, the old ones are in use.
    if actions.is_empty() {
        actions.extend(unused_settings(owner, children, observed));
    }
    Ok(actions)
}

/// Of `actions` those that leave the pods that run in place; their number follows `replicas` all the same.
#[must_use]
pub fn without_replacing<'a>(
    mut actions: Vec<Action<'a>>,
    observed: &Observed,
    replicas: i32,
) -> Vec<Action<'a>> {
    actions.retain(|action| !action.replaces_pods());
    actions.extend(scale_only(observed, replicas));
    actions
}

/// The write that is left when nothing new can be rendered: a connector whose settings or secrets are
/// broken keeps its pods as they are, but can be stopped and scaled. It cannot be started: while it was
/// stopped the hub Thing or the routing group may have changed, and pods of the old ones would still be
/// there when the new ones can be rendered.
#[must_use]
pub fn scale_only(observed: &Observed, replicas: i32) -> Option<Action<'static>> {
    let deployment = observed.deployment.as_ref()?;
    let now = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    (replicas >= 0 && now != Some(replicas) && now != Some(0)).then(|| Action::Scale {
        name: deployment.metadata.name.clone().unwrap_or_default(),
        uid: deployment.metadata.uid.clone().unwrap_or_default(),
        replicas,
    })
}

/// Whether `live` may be written.
///
/// # Errors
/// [`Conflict`] if it is not `owner`'s.
pub fn check<K: Resource>(owner: &Owner, child: &Child, live: &K) -> Result<(), Conflict> {
    if owner.owns(live) {
        return Ok(());
    }
    let (kind, name) = (child.kind, child.name.clone());
    let other = controller(live);
    let of_a_namesake =
        other.is_some_and(|other| other.kind == "AzureIotHubConnector" && other.name == owner.name);
    if of_a_namesake {
        return Err(Conflict::Going { kind, name });
    }
    let owner = other.map(|other| format!("{} {}", other.kind, other.name));
    Err(Conflict::Foreign { kind, name, owner })
}

fn unused_settings<'a>(
    owner: &Owner,
    children: &[Child],
    observed: &Observed,
) -> impl Iterator<Item = Action<'a>> {
    let wanted = |name: &str| {
        children
            .iter()
            .any(|child| child.kind == ChildKind::ConfigMap && child.name == name)
    };
    observed
        .children
        .iter()
        .filter(|((kind, name), live)| {
            *kind == ChildKind::ConfigMap
                && live.meta().deletion_timestamp.is_none()
                && owner.controls(&***live)
                && !wanted(name)
                && !observed.settings_in_use.contains(name)
        })
        .filter_map(|((_, name), live)| {
            let uid = live.meta().uid.clone()?;
            Some(Action::DeleteSettings {
                name: name.clone(),
                uid,
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests;
