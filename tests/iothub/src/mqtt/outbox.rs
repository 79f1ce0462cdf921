//! Packets until they are bytes that the peer can have.

use std::{collections::VecDeque, io};

use bytes::{Buf as _, Bytes, BytesMut};
use mqttbytes::{
    Error, QoS,
    v4::{ConnAck, PingResp, PubAck, Publish, SubAck, UnsubAck},
};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::{c2d::LockToken, receipt::Received};

/// From here on nothing is done for the peer until it has read. One answer may go beyond it; the
/// largest are a method's payload (128 KiB) and a twin.
const FULL: usize = 128 * 1024;

/// What becomes true once the peer can have the bytes.
#[derive(Debug)]
pub(super) enum Delivered {
    /// A cloud-to-device message that is not acknowledged.
    C2d(LockToken),
    /// All else.
    Other(Received),
}

/// A packet for the device.
#[derive(Debug)]
pub(super) enum ToPeer {
    ConnAck(ConnAck),
    PubAck(PubAck),
    SubAck(SubAck),
    UnsubAck(UnsubAck),
    PingResp,
    Publish(Publish),
}

/// What has been said and not sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    buf: BytesMut,
    /// How many bytes have been said in all.
    said: u64,
    unflushed: bool,
    /// What becomes true when that many bytes have been sent.
    due: VecDeque<(u64, Delivered)>,
}

/// A topic is too long for MQTT: it has 65,535 bytes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl Outbox {
    /// Says something.
    pub(super) fn say(&mut self, packet: &ToPeer) -> Result<(), TooLong> {
        let before = self.buf.len();
        let buf = &mut self.buf;
        let written = match packet {
            ToPeer::ConnAck(packet) => packet.write(buf),
            ToPeer::PubAck(packet) => packet.write(buf),
            ToPeer::SubAck(packet) => packet.write(buf),
            ToPeer::UnsubAck(packet) => packet.write(buf),
            ToPeer::PingResp => PingResp.write(buf),
            // The codec would cut the length off.
            ToPeer::Publish(packet) if packet.topic.len() > usize::from(u16::MAX) => {
                Err(Error::PayloadTooLong)
            }
            ToPeer::Publish(packet) => packet.write(buf),
        };
        if written.is_err() {
            self.buf.truncate(before);
            return Err(TooLong);
        }
        self.said += (self.buf.len() - before) as u64;
        Ok(())
    }

    /// Publishes something that is not acknowledged.
    pub(super) fn publish(
        &mut self,
        topic: String,
        payload: impl Into<Bytes>,
    ) -> Result<(), TooLong> {
        let packet = Publish::from_bytes(topic, QoS::AtMostOnce, payload.into());
        self.say(&ToPeer::Publish(packet))
    }

    /// What becomes true when all that has been said is sent.
    pub(super) fn when_sent(&mut self, what: Delivered) {
        self.due.push_back((self.said, what));
    }

    /// Whether the peer must read first.
    pub(super) fn is_full(&self) -> bool {
        self.buf.len() >= FULL
    }

    /// Whether there is something to send.
    pub(super) fn is_waiting(&self) -> bool {
        !self.buf.is_empty() || self.unflushed
    }

    /// Sends a part, and flushes with the last. Nothing is lost when it is cancelled.
    pub(super) async fn send(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if !self.buf.is_empty() {
            let count = writer.write(&self.buf).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.buf.advance(count);
            self.unflushed = true;
        }
        // In the same go: a connection that a test drops now has had these bytes, or has not.
        if self.buf.is_empty() {
            writer.flush().await?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// What has become true. Only whole flushes count: TLS keeps bytes back.
    pub(super) fn delivered(&mut self) -> Option<Delivered> {
        if self.unflushed {
            return None;
        }
        let sent = self.said - self.buf.len() as u64;
        match self.due.front() {
            Some((at, _)) if *at <= sent => self.due.pop_front().map(|(_, what)| what),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt as _, BufWriter};

    use super::*;

    fn told() -> Delivered {
        Delivered::Other(Received::Desired {
            version: 1,
            patch: Value::Null,
        })
    }

    #[tokio::test]
    async fn things_become_true_when_their_bytes_are_out() {
        let mut outbox = Outbox::default();
        outbox.say(&ToPeer::PingResp).unwrap();
        outbox.when_sent(told());
        assert!(outbox.delivered().is_none());
        // Keeps bytes back, as TLS does, over a pipe that takes one.
        let (near, mut far) = tokio::io::duplex(1);
        let mut near = BufWriter::new(near);
        assert!(outbox.send(&mut near).now_or_never().is_none());
        assert!(outbox.delivered().is_none(), "not flushed");
        assert!(outbox.is_waiting());

        assert_eq!(far.read_u8().await.unwrap(), 0xd0);
        outbox.send(&mut near).await.unwrap();
        assert!(outbox.delivered().is_some());
        assert!(outbox.delivered().is_none());
        assert!(!outbox.is_waiting());
    }

    #[test]
    fn a_topic_that_mqtt_cannot_carry_leaves_nothing_behind() {
        let mut outbox = Outbox::default();
        assert_eq!(
            outbox.publish("x".repeat(65_536), Bytes::new()),
            Err(TooLong)
        );
        assert!(!outbox.is_waiting());
        assert_eq!(outbox.publish("x".repeat(65_535), Bytes::new()), Ok(()));
    }
}
