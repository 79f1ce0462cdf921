//! One connection: a task that reads, writes and keeps the time.

use std::{sync::Arc, time::Duration};

use mqttbytes::{
    Error,
    v4::{ConnAck, ConnectReturnCode, Packet},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    fault::FaceName,
    hub::{Connection, Hub, ToDevice, now_ms},
};

use super::{
    End,
    device::Device,
    inbox::Inbox,
    login,
    outbox::{Outbox, ToPeer},
};

/// How long a peer may take to say who it is.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// How long a peer may leave what is written to it unread.
const STALLED_AFTER: Duration = Duration::from_secs(20);

/// How long the last words may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Longest time without a packet, whatever keep-alive was asked for. Source: Microsoft Learn,
/// "Communicate with an IoT hub using the MQTT protocol" (1,767 s is 1.5 times the greatest
/// keep-alive time).
const MAX_IDLE: Duration = Duration::from_secs(1767);

/// Tokens may be valid for longer than timers can run.
const MAX_LOGIN: i64 = 365 * 24 * 3600 * 1000;

/// Serves a device on an accepted stream until the connection ends.
pub async fn serve<S>(hub: Arc<Hub>, stream: S, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut line = Line::new(hub);
    let end = line.run(&mut reader, &mut writer, &connection).await;
    if let Some(device) = &line.device {
        let identity = device.session.identity();
        tracing::info!(%identity, reason = %end, "device disconnected");
    } else if !matches!(end, End::Refused(_)) {
        tracing::info!(reason = %end, "connection of no device ended");
    }
    // The hub sees it go before the peer does: whoever connects next finds the queue as it should be.
    let mut outbox = line.close();
    match end {
        End::Dropped | End::Io(_) | End::Stalled => {}
        End::Refused(_) => {
            let last_words = async {
                while outbox.is_waiting() {
                    outbox.send(&mut writer).await?;
                }
                writer.shutdown().await
            };
            // It is gone, or it does not listen: nothing is left to do either way.
            let _ = timeout(CLOSE_WITHIN, last_words).await;
        }
        _ => {
            let _ = timeout(CLOSE_WITHIN, writer.shutdown()).await;
        }
    }
}

/// The state of a connection.
struct Line {
    hub: Arc<Hub>,
    inbox: Inbox,
    outbox: Outbox,
    /// Who it is, once it has said so.
    device: Option<Device>,
    taken_over: CancellationToken,
    opened: Instant,
    /// When something was last read.
    heard: Instant,
    /// When something was last written, or there was nothing to write.
    written: Instant,
    idle: Duration,
    expires: Instant,
}

impl Line {
    fn new(hub: Arc<Hub>) -> Self {
        let now = Instant::now();
        Self {
            hub,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            device: None,
            taken_over: CancellationToken::new(),
            opened: now,
            heard: now,
            written: now,
            idle: MAX_IDLE,
            expires: now,
        }
    }

    /// Ends the session; gives what has not been sent.
    fn close(self) -> Outbox {
        self.outbox
    }

    async fn run<S>(
        &mut self,
        reader: &mut ReadHalf<S>,
        writer: &mut WriteHalf<S>,
        connection: &Connection,
    ) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        loop {
            if let Some(until) = self.hub.faults.silent(FaceName::Mqtt) {
                tokio::select! {
                    () = connection.dropped.cancelled() => return End::Dropped,
                    () = connection.wake.notified() => {}
                    () = sleep_until(until.into()) => {}
                }
                self.forgive();
                continue;
            }
            if let Err(end) = self.work(connection) {
                return end;
            }
            if let Err(end) = self.wait(reader, writer, connection).await {
                return end;
            }
        }
    }

    /// Does all that can be done without waiting.
    fn work(&mut self, connection: &Connection) -> Result<(), End> {
        while !self.outbox.is_full() && !self.taken_over.is_cancelled() {
            let packet = match self.inbox.next() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(Error::InvalidProtocol | Error::InvalidProtocolLevel(_))
                    if self.device.is_none() =>
                {
                    return Err(self.refuse(ConnectReturnCode::RefusedProtocolVersion));
                }
                Err(error) => return Err(End::Malformed(error)),
            };
            match &mut self.device {
                Some(device) => device.receive(packet, &mut self.outbox)?,
                None => self.login(packet, connection)?,
            }
        }
        if let Some(device) = &mut self.device {
            device.pull(&mut self.outbox);
        }
        Ok(())
    }

    /// Waits until there is something to do.
    async fn wait<S>(
        &mut self,
        reader: &mut ReadHalf<S>,
        writer: &mut WriteHalf<S>,
        connection: &Connection,
    ) -> Result<(), End>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let room = !self.outbox.is_full();
        let waiting = self.outbox.is_waiting();
        if !waiting {
            self.written = Instant::now();
        }
        let (deadline, late) = self.deadline(waiting);
        // Mail comes before reading, lest a peer that writes without pause never gets any.
        tokio::select! {
            biased;
            () = connection.dropped.cancelled() => return Err(End::Dropped),
            () = self.taken_over.cancelled() => return Err(End::TakenOver),
            () = connection.wake.notified() => {}
            () = sleep_until(deadline) => return Err(late),
            sent = self.outbox.send(writer), if waiting => {
                sent?;
                self.written = Instant::now();
                if let Some(device) = &self.device {
                    while let Some(what) = self.outbox.delivered() {
                        device.delivered(what);
                    }
                }
            }
            Some(what) = mail(&mut self.device), if room => {
                if let Some(device) = &mut self.device {
                    device.pass_on(what, &mut self.outbox);
                }
            }
            count = self.inbox.fill(reader), if room => {
                if count? == 0 {
                    return Err(End::Closed);
                }
                self.heard = Instant::now();
            }
        }
        Ok(())
    }

    /// When the peer has been quiet for too long, and what that means.
    fn deadline(&self, waiting: bool) -> (Instant, End) {
        let first = if self.device.is_none() {
            (self.opened + CONNECT_WITHIN, End::NoConnect)
        } else if self.heard + self.idle < self.expires {
            (self.heard + self.idle, End::Idle)
        } else {
            (self.expires, End::Expired)
        };
        let stalled = self.written + STALLED_AFTER;
        if waiting && stalled < first.0 {
            (stalled, End::Stalled)
        } else {
            first
        }
    }

    /// The time that a fault took is not the peer's.
    fn forgive(&mut self) {
        let now = Instant::now();
        self.opened = now;
        self.heard = now;
        self.written = now;
    }

    fn login(&mut self, packet: Packet, connection: &Connection) -> Result<(), End> {
        let Packet::Connect(connect) = packet else {
            return Err(End::Violation("the first packet is not CONNECT"));
        };
        let admitted = match login::check(&self.hub, &connect) {
            Ok(admitted) => admitted,
            Err(code) => {
                tracing::info!(client_id = %connect.client_id, ?code, "device refused");
                return Err(self.refuse(code));
            }
        };
        let Some(device) = Device::start(&self.hub, &admitted.identity, connect.clean_session)
        else {
            return Err(self.refuse(ConnectReturnCode::NotAuthorized));
        };
        connection.belongs_to(admitted.identity.device_id());
        self.taken_over = device.session.taken_over.clone();
        if connect.keep_alive > 0 {
            let keep_alive = Duration::from_secs(connect.keep_alive.into());
            self.idle = (keep_alive * 3 / 2).min(MAX_IDLE);
        }
        let left = admitted
            .expires
            .saturating_mul(1000)
            .saturating_sub(now_ms());
        let left = u64::try_from(left.clamp(0, MAX_LOGIN)).unwrap_or(0);
        self.expires = Instant::now() + Duration::from_millis(left);
        let resumed = !connect.clean_session && device.session.resumed;
        tracing::info!(identity = %admitted.identity, resumed, "device connected");
        self.device = Some(device);
        self.say(ConnAck::new(ConnectReturnCode::Success, resumed));
        Ok(())
    }

    fn refuse(&mut self, code: ConnectReturnCode) -> End {
        self.say(ConnAck::new(code, false));
        End::Refused(code)
    }

    fn say(&mut self, answer: ConnAck) {
        // Three bytes always fit.
        let _ = self.outbox.say(&ToPeer::ConnAck(answer));
    }
}

/// What the hub has for the device; never anything before there is one.
async fn mail(device: &mut Option<Device>) -> Option<ToDevice> {
    match device {
        Some(device) => device.session.mailbox.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{connect, hub, register},
        *,
    };

    fn logged_in(keep_alive: u16, seconds: i64) -> Line {
        let hub = hub();
        let (identity, keys) = register(&hub, None);
        let connection = hub.connect(FaceName::Mqtt);
        let mut line = Line::new(hub);
        let mut connect = connect(&identity, &keys, seconds);
        connect.keep_alive = keep_alive;
        line.login(Packet::Connect(connect), &connection).unwrap();
        line
    }

    #[test]
    fn the_limit_that_comes_first_ends_the_connection() {
        let line = Line::new(hub());
        let (at, why) = line.deadline(false);
        assert!(matches!(why, End::NoConnect));
        assert_eq!(at - line.opened, Duration::from_secs(30));

        for (keep_alive, expected) in [(60, 90), (0, 1767), (u16::MAX, 1767)] {
            let line = logged_in(keep_alive, 3600);
            let (at, why) = line.deadline(false);
            assert!(matches!(why, End::Idle), "{keep_alive}");
            assert_eq!(
                at - line.heard,
                Duration::from_secs(expected),
                "{keep_alive}"
            );
        }

        let (at, why) = logged_in(0, 600).deadline(false);
        assert!(matches!(why, End::Expired));
        assert!(at <= Instant::now() + Duration::from_secs(600));
        let far = logged_in(0, i64::MAX / 1_000_000);
        assert!(
            matches!(far.deadline(false).1, End::Idle),
            "no timer runs that long"
        );

        let line = logged_in(60, 3600);
        let (at, why) = line.deadline(true);
        assert!(matches!(why, End::Stalled));
        assert_eq!(at - line.written, Duration::from_secs(20));
    }
}
