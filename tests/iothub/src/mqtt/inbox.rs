//! Bytes from the peer until they are packets.

use std::io;

use bytes::BytesMut;
use mqttbytes::{Error, v4};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Largest body of a message. Source: Microsoft Learn, "IoT Hub quotas and throttling".
pub(super) const MAX_BODY: usize = 256 * 1024;

/// Body, topic (at most 65,535 bytes), packet id and lengths.
const MAX_PACKET: usize = MAX_BODY + 64 * 1024 + 16;

/// How much is read at once; a TLS record has at most twice that.
const CHUNK: usize = 8 * 1024;

/// What has been read and not taken. Holds at most one unfinished packet and a chunk.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    buf: BytesMut,
}

impl Inbox {
    /// The next packet, if it is complete.
    pub(super) fn next(&mut self) -> Result<Option<v4::Packet>, Error> {
        match v4::read(&mut self.buf, MAX_PACKET) {
            Ok(packet) => Ok(Some(packet)),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads; 0 is the end. Nothing is lost when it is cancelled.
    pub(super) async fn fill(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<usize> {
        self.buf.reserve(CHUNK);
        reader.read_buf(&mut self.buf).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inbox(bytes: &[u8]) -> Inbox {
        Inbox {
            buf: BytesMut::from(bytes),
        }
    }

    #[test]
    fn packets_come_when_they_are_complete() {
        let mut inbox = inbox(b"\xc0\x00\x40\x02\x00");
        assert_eq!(inbox.next(), Ok(Some(v4::Packet::PingReq)));
        assert_eq!(inbox.next(), Ok(None));
        inbox.buf.extend_from_slice(b"\x07");
        assert_eq!(
            inbox.next(),
            Ok(Some(v4::Packet::PubAck(v4::PubAck::new(7))))
        );
    }

    #[test]
    fn a_length_that_is_too_large_is_refused_before_the_bytes_come() {
        assert_eq!(
            inbox(b"\x30\xff\xff\xff\x7f").next(),
            Err(Error::PayloadSizeLimitExceeded(268_435_455))
        );
        assert_eq!(
            inbox(b"\x30\xff\xff\xff\xff").next(),
            Err(Error::MalformedRemainingLength)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut inbox = inbox(&bytes);
            while let Ok(Some(_)) = inbox.next() {}
        }

        /// Short packets whose length is right, so that every packet type is read to its end.
        #[test]
        fn no_packet_makes_it_panic(
            first in any::<u8>(),
            rest in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut bytes = vec![first, u8::try_from(rest.len()).unwrap()];
            bytes.extend(rest);
            let _ = inbox(&bytes).next();
        }
    }
}
