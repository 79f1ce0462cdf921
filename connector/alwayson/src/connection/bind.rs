//! What is to be bound on a node, and how far that is.

use std::{collections::BTreeSet, sync::Arc};

use crate::{Bind, Gateway};

/// What is to be bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredBinds {
    /// The endpoint's own Thing.
    pub gateway: Option<Gateway>,
    /// A Thing that several endpoints bind together. Bound after the gateway.
    pub group: Option<GroupBind>,
    /// Further names, bound after these. One that is refused holds up no other. There may be tens of thousands,
    /// which all nodes share.
    pub names: Arc<BTreeSet<Arc<str>>>,
}

/// A Thing that several endpoints bind together, so that the platform spreads its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBind {
    /// The Thing.
    pub thing: String,
    /// Name under which the endpoints belong together.
    pub routing_group: String,
    /// How it is said on the wire.
    pub strategy: GroupBindStrategy,
}

/// How a group bind is said on the wire. PTC has not published it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GroupBindStrategy {
    /// An ordinary bind of the Thing by an endpoint whose gateway is bound. The platform knows the group
    /// from the Thing, which has the shape `MultiBindRemoteThing`; the name is not sent.
    #[default]
    Plain,
}

/// How far a bind is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindState {
    /// Nothing is to be bound.
    Unwanted,
    /// It will be, as soon as the node answers.
    Pending,
    /// It is.
    Bound,
    /// The node refuses; it is asked again after a while.
    Refused {
        /// The node's words.
        reason: String,
    },
}

/// How far further names are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamesState {
    /// How many are wanted.
    pub wanted: usize,
    /// How many are bound.
    pub bound: usize,
    /// How many the node refuses; they are asked for again after a while.
    pub refused: usize,
    /// One that it refuses, and its words.
    pub reason: Option<String>,
}

/// The one place that knows the bytes of a group bind.
pub(super) fn group_bind(group: &GroupBind) -> Bind {
    match group.strategy {
        GroupBindStrategy::Plain => Bind::names([group.thing.as_str()]),
    }
}

/// The bind of an endpoint's own Thing: the pattern that every platform is known to take.
pub(super) fn gateway_bind(gateway: &Gateway) -> Bind {
    Bind {
        gateway: Some(gateway.clone()),
        ..Bind::names([gateway.name.as_str()])
    }
}
