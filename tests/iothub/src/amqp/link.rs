//! Links, seen from the service.

use bytes::{Bytes, BytesMut};

use super::performative::Flow;

/// Messages that a peer may send before it gets new credit: what the real service gives at most.
pub(super) const CREDIT: u32 = 500;
/// Largest message that a peer may send: Event Hubs' 1 MiB, which IoT Hub's limits are below.
pub(super) const MAX_MESSAGE: u64 = 1024 * 1024;

/// A link.
#[derive(Debug)]
pub(super) enum Link {
    /// The peer reads.
    Outgoing(Outgoing),
    /// The peer writes.
    Incoming(Incoming),
    /// We have detached; what still comes for it is dropped until the peer does so too.
    Leaving,
}

/// A link that the peer reads.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The peer wants no dispositions.
    pub(super) settled: bool,
    pub(super) credit: u32,
    pub(super) delivery_count: u32,
    pub(super) drain: bool,
    /// A message of which frames are still to be written.
    pub(super) current: Option<Delivery>,
}

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) id: u32,
    pub(super) rest: Bytes,
}

/// A link that the peer writes.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) credit: u32,
    pub(super) delivery_count: u32,
    /// Frames of a message that is not whole yet.
    pub(super) partial: BytesMut,
    pub(super) delivery: Option<u32>,
    pub(super) settled: bool,
}

impl Outgoing {
    /// Takes the peer's credit.
    pub(super) fn flow(&mut self, flow: &Flow) {
        if let Some(credit) = flow.link_credit {
            // Credit counts from the peer's view of the delivery count, which may lag behind ours.
            let end = flow.delivery_count.unwrap_or(0).wrapping_add(credit);
            let left = end.wrapping_sub(self.delivery_count);
            self.credit = if left > credit { 0 } else { left };
        }
        self.drain = flow.drain;
    }
}

impl Incoming {
    pub(super) fn new(initial_delivery_count: u32) -> Self {
        Self {
            credit: CREDIT,
            delivery_count: initial_delivery_count,
            ..Self::default()
        }
    }

    /// A message has come; whether the peer needs new credit, which is counted here.
    pub(super) fn used(&mut self) -> bool {
        self.delivery_count = self.delivery_count.wrapping_add(1);
        self.credit = self.credit.saturating_sub(1);
        let low = self.credit <= CREDIT / 2;
        if low {
            self.credit = CREDIT;
        }
        low
    }
}
