//! Requests on `$cbs` and `$management`, and the links on which they are answered.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::amqp::{Attach, LinkId, Role};

/// Answers that wait to be fetched: a peer that fetches none gets no more.
const MAX: usize = 256;

/// A link to `$cbs` or `$management`.
#[derive(Debug)]
struct Desk {
    node: &'static str,
    /// Where the peer says that it receives.
    address: Option<String>,
    role: Role,
}

#[derive(Debug)]
struct Reply {
    node: &'static str,
    to: Option<String>,
    bytes: Bytes,
}

/// The request-response links of one connection.
#[derive(Debug, Default)]
pub(super) struct Replies {
    desks: HashMap<LinkId, Desk>,
    waiting: VecDeque<Reply>,
}

impl Replies {
    pub(super) fn attach(&mut self, link: LinkId, attach: &Attach, node: &'static str) {
        let desk = Desk {
            node,
            address: attach.target.clone(),
            role: attach.role,
        };
        self.desks.insert(link, desk);
    }

    /// The node that a link belongs to, if it is of these.
    pub(super) fn node(&self, link: LinkId) -> Option<&'static str> {
        self.desks.get(&link).map(|desk| desk.node)
    }

    pub(super) fn push(&mut self, node: &'static str, to: Option<String>, bytes: Bytes) {
        if self.waiting.len() < MAX {
            self.waiting.push_back(Reply { node, to, bytes });
        }
    }

    /// The next answer for a link. Some clients say no `reply-to`: then any link to the node will do.
    pub(super) fn pull(&mut self, link: LinkId) -> Option<Bytes> {
        let desk = self.desks.get(&link)?;
        let meant = |reply: &Reply| {
            reply.node == desk.node
                && reply.to.as_ref().is_none_or(|to| {
                    desk.address.as_ref() == Some(to) || !self.is_address(desk.node, to)
                })
        };
        let index = self.waiting.iter().position(meant)?;
        self.waiting.remove(index).map(|reply| reply.bytes)
    }

    fn is_address(&self, node: &str, to: &str) -> bool {
        self.desks.values().any(|desk| {
            desk.node == node && desk.role == Role::Receiver && desk.address.as_deref() == Some(to)
        })
    }

    pub(super) fn detached(&mut self, link: LinkId) {
        self.desks.remove(&link);
    }
}
