//! Keeps the binds that are wanted on every node, and tells the member's report how far they are.

use std::{collections::BTreeSet, sync::Arc};

use alwayson::{
    BindState, Class, DesiredBinds, Gateway, GroupBind, GroupBindStrategy, Link, NamesState, Node,
    NodeState,
};
use connector_config::{MemberReport, ReportClass, RoutingGroup, ThingName};
use futures::future::select_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{HUB, Nodes};
use crate::{
    identity::MemberId,
    metrics::Metrics,
    report::{Part, Reporter, Trouble},
};

/// Wants binds, and watches what becomes of them. Cheap to clone.
#[derive(Clone)]
pub struct Binder {
    wanted: watch::Sender<DesiredBinds>,
}

impl Binder {
    /// Wants the member's own Thing from the start.
    #[must_use]
    pub fn start(
        nodes: Nodes,
        member: &MemberId,
        template: &ThingName,
        reporter: Reporter,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Self {
        let gateway = Gateway {
            name: member.as_str().to_owned(),
            template: template.as_str().to_owned(),
        };
        let first = DesiredBinds {
            gateway: Some(gateway),
            ..DesiredBinds::default()
        };
        let (wanted, changes) = watch::channel(first);
        tokio::spawn(keep(nodes, changes, reporter, metrics, shutdown));
        Self { wanted }
    }

    /// The hub Thing is wanted under its routing group, and with it `names`.
    pub fn join(&self, hub: &ThingName, group: &RoutingGroup, names: &[&str]) {
        let names = names.iter().map(|name| Arc::from(*name)).collect();
        let group = GroupBind {
            thing: hub.as_str().to_owned(),
            routing_group: group.as_str().to_owned(),
            strategy: GroupBindStrategy::Plain,
        };
        self.wanted.send_modify(|wanted| {
            wanted.group = Some(group);
            wanted.names = Arc::new(names);
        });
    }

    /// These names of devices are wanted in place of those before, beside [`HUB`]; once the hub Thing is no longer, nor
    /// are they.
    pub fn devices(&self, mut names: BTreeSet<Arc<str>>) {
        self.wanted.send_if_modified(|wanted| {
            let joined = wanted.group.is_some();
            if joined {
                names.extend(wanted.names.get(HUB).cloned());
                wanted.names = Arc::new(names);
            }
            joined
        });
    }

    /// The hub Thing is no longer wanted: no new requests come.
    pub fn leave(&self) {
        self.wanted.send_modify(|wanted| {
            wanted.group = None;
            wanted.names = Arc::default();
        });
    }

    /// Nothing is wanted any more, not even the member's own Thing.
    pub fn end(&self) {
        self.wanted.send_replace(DesiredBinds::default());
    }
}

async fn keep(
    mut nodes: Nodes,
    mut wanted: watch::Receiver<DesiredBinds>,
    reporter: Reporter,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let mut ready = Ready::default();
    loop {
        let now: Arc<[Node]> = nodes.borrow_and_update().clone();
        let desired = wanted.borrow_and_update().clone();
        for node in now.iter() {
            node.bind(desired.clone());
        }
        let mut states: Vec<_> = now.iter().map(Node::state).collect();
        let moved = loop {
            let seen: Vec<NodeState> = states
                .iter_mut()
                .map(|state| state.borrow_and_update().clone())
                .collect();
            tell(&now, &seen, &mut ready, &reporter, &metrics);
            let any = async {
                if states.is_empty() {
                    std::future::pending::<()>().await;
                }
                select_all(states.iter_mut().map(|state| Box::pin(next(state)))).await;
            };
            tokio::select! {
                () = shutdown.cancelled() => break false,
                changed = nodes.changed() => break changed.is_ok(),
                changed = wanted.changed() => break changed.is_ok(),
                () = any => {}
            }
        };
        if !moved {
            return;
        }
    }
}

/// The next change of a node; never comes from one that has ended.
async fn next(state: &mut watch::Receiver<NodeState>) {
    if state.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// First ready: bound on every node that accepts connections. Afterwards: on at least one.
#[derive(Default)]
struct Ready(bool);

impl Ready {
    fn update(&mut self, states: &[NodeState]) -> bool {
        let bound = states
            .iter()
            .filter(|state| state.group == BindState::Bound)
            .count();
        let up = states
            .iter()
            .filter(|state| matches!(state.link, Link::Up))
            .count();
        self.0 = if self.0 {
            bound > 0
        } else {
            bound > 0 && bound == up
        };
        self.0
    }
}

fn tell(
    nodes: &[Node],
    states: &[NodeState],
    ready: &mut Ready,
    reporter: &Reporter,
    metrics: &Metrics,
) {
    for (node, state) in nodes.iter().zip(states) {
        let up = i64::from(matches!(state.link, Link::Up));
        metrics
            .node_up
            .with_label_values(&[node.name().as_ref()])
            .set(up);
        metrics
            .bound_names
            .with_label_values(&[node.name().as_ref()])
            .set(i64::try_from(state.names.bound).unwrap_or(i64::MAX));
    }
    let bound = states
        .iter()
        .filter(|state| state.group == BindState::Bound)
        .count();
    reporter.nodes(bound, states.len(), ready.update(states));
    let names = nodes.iter().map(|node| node.name().as_ref());
    let by_name = || names.clone().zip(states);
    let say = |part, trouble: Option<Trouble>| match trouble {
        Some(trouble) => reporter.trouble(part, trouble),
        None => reporter.well(part),
    };
    let node = by_name().find_map(|(name, state)| trouble(name, state));
    say(Part::Platform, node);
    let refused = by_name().find_map(|(name, state)| refused(name, &state.names));
    say(Part::Devices, refused);
}

/// Names that a node still refuses when it has been asked for all.
fn refused(node: &str, names: &NamesState) -> Option<Trouble> {
    let settled = names.bound + names.refused >= names.wanted;
    let reason = names.reason.as_ref().filter(|_| settled)?;
    let message = format!(
        "ThingWorx node {node} refuses to bind some names, which are tried again; end the client that has bound them, or \
         let it (ThingWorx: {reason})"
    );
    let trouble = Trouble::new(ReportClass::User, MemberReport::DEVICE_BIND, message);
    Some(trouble)
}

/// What is wrong with a node, if anything.
fn trouble(node: &str, state: &NodeState) -> Option<Trouble> {
    if let BindState::Refused { reason } = &state.group {
        let message = format!(
            "ThingWorx node {node} refuses to bind the hub Thing: {reason}; it must be based on a \
             template with the Thing Shape MultiBindRemoteThing so that several connectors can bind it"
        );
        return Some(Trouble::new(ReportClass::User, "GroupBindRefused", message));
    }
    if let BindState::Refused { reason } = &state.gateway {
        let message = format!(
            "ThingWorx node {node} refuses the connector's own Thing: {reason}; check \
             thingworx.gatewayTemplate"
        );
        return Some(Trouble::new(
            ReportClass::User,
            "GatewayBindRefused",
            message,
        ));
    }
    let Link::Down { error: Some(error) } = &state.link else {
        return None;
    };
    let (class, reason, hint) = match error.class() {
        Class::Denied => {
            let hint = "check that the application key exists, is enabled and has not expired";
            (ReportClass::Denied, "PlatformDenied", hint)
        }
        Class::User => (
            ReportClass::User,
            "PlatformRefused",
            "check thingworx.endpoints and tls",
        ),
        Class::NotFound | Class::Throttled | Class::Transient | Class::Bug => {
            let hint = "check that the node runs and can be reached from the pod";
            (ReportClass::Transient, "PlatformUnreachable", hint)
        }
    };
    Some(Trouble::new(
        class,
        reason,
        format!("ThingWorx node {node}: {error}; {hint}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(up: bool, bound: bool) -> NodeState {
        NodeState {
            link: if up {
                Link::Up
            } else {
                Link::Down { error: None }
            },
            gateway: BindState::Bound,
            group: if bound {
                BindState::Bound
            } else {
                BindState::Pending
            },
            names: NamesState::default(),
        }
    }

    #[test]
    fn first_ready_on_every_node_that_is_up_then_on_any() {
        let mut ready = Ready::default();
        assert!(!ready.update(&[node(false, false)]), "no node");
        assert!(
            !ready.update(&[node(true, true), node(true, false)]),
            "one of two"
        );
        assert!(
            ready.update(&[node(true, true), node(false, false)]),
            "the other does not accept"
        );
        assert!(
            ready.update(&[node(true, true), node(true, false)]),
            "the other comes back"
        );
        assert!(
            !ready.update(&[node(true, false), node(false, false)]),
            "none is bound"
        );
        assert!(
            !ready.update(&[node(true, true), node(true, false)]),
            "as at first"
        );
    }
}
