//! Sessions: windows, and the links in them.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    Face, LinkId, Message, Outcome, Pulled,
    error::{AmqpError, condition},
    frame::{FrameKind, write_frame},
    link::{CREDIT, Delivery, Incoming, Link, MAX_MESSAGE, Outgoing},
    performative::{self, Attach, Begin, Disposition, Flow, LinkFlow, Role, SessionFlow, Transfer},
};

/// Frames that the peer may send before it hears of us again.
pub(super) const WINDOW: u32 = 5000;
/// Most that is encoded before it is written.
pub(super) const OUTPUT: usize = 256 * 1024;
/// Bytes of a frame that its headers need at most.
const FRAME_OVERHEAD: usize = 128;

const ACCEPTED: u8 = 0x24;
const REJECTED: u8 = 0x25;
/// States that end a delivery lie between accepted and modified (AMQP 1.0, 3.4).
const MODIFIED: u64 = 0x27;

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    channel: u16,
    next_incoming: u32,
    since_flow: u32,
    next_outgoing: u32,
    next_delivery: u32,
    peer_window: u32,
    links: BTreeMap<u32, Link>,
    /// Deliveries of which a face wants to know what becomes: its link, and its own number for it.
    tracked: BTreeMap<u32, (u32, u64)>,
}

impl Session {
    /// Begins a session as the peer asked, on the same channel number.
    pub(super) fn begin(channel: u16, begin: &Begin, out: &mut BytesMut) -> Self {
        write_frame(out, FrameKind::Amqp, channel, |body| {
            performative::begin(body, channel, WINDOW);
        });
        Self {
            channel,
            next_incoming: begin.next_outgoing_id,
            since_flow: 0,
            next_outgoing: 0,
            next_delivery: 0,
            peer_window: begin.incoming_window,
            links: BTreeMap::new(),
            tracked: BTreeMap::new(),
        }
    }

    fn id(&self, handle: u32) -> LinkId {
        LinkId {
            channel: self.channel,
            handle,
        }
    }

    fn write(&self, out: &mut BytesMut, fill: impl FnOnce(&mut BytesMut)) {
        write_frame(out, FrameKind::Amqp, self.channel, fill);
    }

    pub(super) fn attach(&mut self, face: &mut impl Face, attach: &Attach, out: &mut BytesMut) {
        let handle = attach.handle;
        let answer = face.attach(self.id(handle), attach);
        // Sender settle mode 1 is "settled": no dispositions wanted. Else we send unsettled.
        let mode = match attach.role {
            Role::Receiver => u8::from(attach.snd_settle_mode == 1),
            Role::Sender => attach.snd_settle_mode,
        };
        self.write(out, |body| {
            performative::attach(body, attach, mode, answer.is_err(), MAX_MESSAGE);
        });
        if let Err(error) = answer {
            self.write(out, |body| {
                performative::detach(body, handle, true, Some(&error));
            });
            self.links.insert(handle, Link::Leaving);
            return;
        }
        let link = match attach.role {
            Role::Receiver => Link::Outgoing(Outgoing {
                settled: mode == 1,
                ..Outgoing::default()
            }),
            Role::Sender => Link::Incoming(Incoming::new(attach.initial_delivery_count)),
        };
        let incoming = matches!(link, Link::Incoming(_));
        self.links.insert(handle, link);
        if incoming {
            self.flow(
                Some((handle, attach.initial_delivery_count, CREDIT, false)),
                out,
            );
        }
    }

    fn flow(&mut self, link: Option<(u32, u32, u32, bool)>, out: &mut BytesMut) {
        self.since_flow = 0;
        let session = SessionFlow {
            next_incoming_id: self.next_incoming,
            incoming_window: WINDOW,
            next_outgoing_id: self.next_outgoing,
            outgoing_window: WINDOW,
        };
        let link = link.map(|(handle, delivery_count, credit, drain)| LinkFlow {
            handle,
            delivery_count,
            credit,
            drain,
        });
        self.write(out, |body| {
            performative::flow(body, &session, link.as_ref());
        });
    }

    pub(super) fn on_flow(&mut self, flow: &Flow, out: &mut BytesMut) {
        let expected = flow.next_incoming_id.unwrap_or(0);
        self.peer_window = expected
            .wrapping_add(flow.incoming_window)
            .wrapping_sub(self.next_outgoing);
        if let Some(Link::Outgoing(link)) = flow.handle.and_then(|h| self.links.get_mut(&h)) {
            link.flow(flow);
        }
        if flow.echo {
            self.flow(None, out);
        }
    }

    /// Takes a frame of a message.
    ///
    /// # Errors
    /// What ends the connection.
    pub(super) fn on_transfer(
        &mut self,
        face: &mut impl Face,
        transfer: &Transfer,
        out: &mut BytesMut,
    ) -> Result<(), AmqpError> {
        self.next_incoming = self.next_incoming.wrapping_add(1);
        self.since_flow += 1;
        let handle = transfer.handle;
        match self.links.get_mut(&handle) {
            Some(Link::Incoming(link)) => {
                link.delivery = link.delivery.or(transfer.delivery_id);
                link.settled |= transfer.settled;
                link.partial.put_slice(&transfer.payload);
                if link.partial.len() as u64 > MAX_MESSAGE {
                    let error = AmqpError::new(
                        condition::MESSAGE_SIZE_EXCEEDED,
                        format!("a message has at most {MAX_MESSAGE} bytes"),
                    );
                    self.detach(face, handle, &error, out);
                } else if transfer.aborted {
                    link.partial.clear();
                    link.delivery = None;
                } else if !transfer.more {
                    self.whole(face, handle, out);
                }
            }
            Some(Link::Leaving) => {}
            Some(Link::Outgoing(_)) | None => {
                return Err(AmqpError::new(
                    condition::UNATTACHED_HANDLE,
                    format!("handle {handle} is not one that you write to"),
                ));
            }
        }
        if self.since_flow >= WINDOW / 2 {
            self.flow(None, out);
        }
        Ok(())
    }

    fn whole(&mut self, face: &mut impl Face, handle: u32, out: &mut BytesMut) {
        let id = self.id(handle);
        let Some(Link::Incoming(link)) = self.links.get_mut(&handle) else {
            return;
        };
        let bytes = link.partial.split().freeze();
        let (delivery, settled) = (link.delivery.take(), std::mem::take(&mut link.settled));
        let needs_credit = link.used();
        let (count, credit) = (link.delivery_count, link.credit);
        let outcome = Message::decode(bytes).and_then(|message| face.message(id, message));
        if let (Some(delivery), false) = (delivery, settled) {
            self.write(out, |body| {
                performative::disposition(body, Role::Receiver, delivery, delivery, |state| {
                    match &outcome {
                        Ok(()) => state.described(ACCEPTED, |_| {}),
                        Err(error) => state.described(REJECTED, |list| error.write(list)),
                    };
                });
            });
        }
        if needs_credit {
            self.flow(Some((handle, count, credit, false)), out);
        }
    }

    /// The peer says what has become of deliveries.
    ///
    /// # Errors
    /// What ends the connection.
    pub(super) fn on_disposition(
        &mut self,
        face: &mut impl Face,
        body: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), AmqpError> {
        if self.tracked.is_empty() {
            return Ok(());
        }
        let Disposition {
            role,
            first,
            last,
            settled,
            state,
        } = Disposition::decode(body)?;
        let outcome = match state {
            Some(state) if state == u64::from(ACCEPTED) => Outcome::Accepted,
            Some(state) if state == u64::from(REJECTED) => Outcome::Rejected,
            // Modified says more than released, and nothing that matters here; settled without a state
            // is released by default (AMQP 1.0, 3.5.3).
            Some(state) if state <= MODIFIED => Outcome::Released,
            None if settled => Outcome::Released,
            // Received: how far the peer has come.
            Some(_) | None => return Ok(()),
        };
        if role != Role::Receiver || first > last {
            return Ok(());
        }
        let rest = self.tracked.split_off(&first);
        let (done, later): (BTreeMap<_, _>, BTreeMap<_, _>) = rest
            .into_iter()
            .partition(|(delivery, _)| *delivery <= last);
        self.tracked.extend(later);
        for (delivery, (handle, number)) in done {
            face.settled(self.id(handle), number, outcome);
            if !settled {
                self.write(out, |body| {
                    performative::disposition(body, Role::Sender, delivery, delivery, |state| {
                        state.described(ACCEPTED, |_| {});
                    });
                });
            }
        }
        Ok(())
    }

    pub(super) fn on_detach(
        &mut self,
        face: &mut impl Face,
        handle: u32,
        closed: bool,
        out: &mut BytesMut,
    ) {
        match self.links.remove(&handle) {
            Some(Link::Leaving) | None => {}
            Some(Link::Outgoing(_) | Link::Incoming(_)) => {
                self.tracked.retain(|_, (other, _)| *other != handle);
                face.detached(self.id(handle));
                self.write(out, |body| performative::detach(body, handle, closed, None));
            }
        }
    }

    fn detach(&mut self, face: &mut impl Face, handle: u32, error: &AmqpError, out: &mut BytesMut) {
        self.write(out, |body| {
            performative::detach(body, handle, true, Some(error));
        });
        self.links.insert(handle, Link::Leaving);
        face.detached(self.id(handle));
    }

    /// Ends the session: tells the face of each link that goes with it.
    pub(super) fn end(&mut self, face: &mut impl Face) {
        for (handle, link) in std::mem::take(&mut self.links) {
            if !matches!(link, Link::Leaving) {
                face.detached(self.id(handle));
            }
        }
    }

    /// Writes at most one frame for each link that the peer reads; whether any was written.
    pub(super) fn pump(
        &mut self,
        face: &mut impl Face,
        max_frame: usize,
        out: &mut BytesMut,
    ) -> bool {
        let mut progress = false;
        let handles: Vec<u32> = self.links.keys().copied().collect();
        for handle in handles {
            if out.len() >= OUTPUT || self.peer_window == 0 {
                break;
            }
            progress |= self.pump_link(face, handle, max_frame, out);
        }
        progress
    }

    fn pump_link(
        &mut self,
        face: &mut impl Face,
        handle: u32,
        max_frame: usize,
        out: &mut BytesMut,
    ) -> bool {
        let id = self.id(handle);
        let Some(Link::Outgoing(link)) = self.links.get_mut(&handle) else {
            return false;
        };
        if link.current.is_none() {
            let mut pulled = face.pull(id, link.credit > 0);
            if let Pulled::Tracked(bytes, number) = pulled {
                if link.settled {
                    face.settled(id, number, Outcome::Accepted);
                } else {
                    self.tracked.insert(self.next_delivery, (handle, number));
                }
                pulled = Pulled::Message(bytes);
            }
            match pulled {
                Pulled::Detach(error) => {
                    self.detach(face, handle, &error, out);
                    return true;
                }
                Pulled::Message(bytes) if link.credit > 0 => {
                    link.current = Some(Delivery {
                        id: self.next_delivery,
                        rest: bytes,
                    });
                    self.next_delivery = self.next_delivery.wrapping_add(1);
                    link.credit -= 1;
                    link.delivery_count = link.delivery_count.wrapping_add(1);
                }
                Pulled::Message(_) | Pulled::Tracked(..) | Pulled::Nothing => {
                    if !link.drain || link.credit == 0 {
                        return false;
                    }
                    link.delivery_count = link.delivery_count.wrapping_add(link.credit);
                    link.credit = 0;
                    link.drain = false;
                    let count = link.delivery_count;
                    self.flow(Some((handle, count, 0, true)), out);
                    return true;
                }
            }
        }
        let Some(Link::Outgoing(link)) = self.links.get_mut(&handle) else {
            return false;
        };
        let (settled, Some(mut delivery)) = (link.settled, link.current.take()) else {
            return false;
        };
        let part = delivery
            .rest
            .split_to(delivery.rest.len().min(max_frame - FRAME_OVERHEAD));
        let more = !delivery.rest.is_empty();
        let number = delivery.id;
        link.current = more.then_some(delivery);
        self.next_outgoing = self.next_outgoing.wrapping_add(1);
        self.peer_window -= 1;
        self.write(out, |body| {
            performative::transfer(body, handle, number, settled, more);
            body.put_slice(&part);
        });
        true
    }
}
