//! A connection on a socket.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    time::{sleep, sleep_until},
};

use super::{
    Face,
    connection::{Connection, IDLE_TIMEOUT},
};
use crate::hub;

/// How often expiries and heartbeats are looked after.
const TICK: Duration = Duration::from_millis(500);
/// A peer that does not read for so long is given up.
const STUCK: Duration = Duration::from_secs(60);
/// Bytes read at once.
const INPUT: usize = 64 * 1024;

/// Serves a connection until either side ends it, or `connection` is dropped by a fault. While
/// `silent` gives a time, or once `connection` is mute, nothing is read or written.
pub(crate) async fn serve<S, F>(
    stream: S,
    connection: hub::Connection,
    face: F,
    silent: impl Fn() -> Option<Instant> + Send,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Face,
{
    let dropped = connection.dropped.clone();
    let work = run(stream, &connection, face, silent);
    let ended = tokio::select! {
        ended = work => ended,
        () = dropped.cancelled() => Err(io::Error::other("a test asked for it")),
    };
    if let Err(error) = ended {
        tracing::info!(face = ?connection.face, %error, "connection lost");
    }
}

async fn run<S, F>(
    stream: S,
    registered: &hub::Connection,
    face: F,
    silent: impl Fn() -> Option<Instant> + Send,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Face,
{
    let (mut reader, mut writer) = split(stream);
    let mut connection = Connection::new(face);
    let mut input = BytesMut::with_capacity(INPUT);
    let (mut heard, mut wrote) = (Instant::now(), Instant::now());
    // Since when bytes wait to be written; and whether some are with TLS but not yet with the socket.
    let (mut waiting, mut unflushed) = (None::<Instant>, false);
    let patience = Duration::from_millis(IDLE_TIMEOUT.into()) * 2;
    loop {
        if registered.dropped.is_cancelled() {
            // What it would still write may be the answer that a test wants lost.
            return Err(io::Error::other("a test asked for it"));
        }
        if registered.is_mute() {
            // It cannot see its peer go, and so counts as idle until it is given up.
            sleep(patience).await;
            return Err(io::Error::other("a test has muted it"));
        }
        if let Some(until) = silent() {
            tokio::select! {
                () = sleep_until(until.into()) => {}
                () = registered.wake.notified() => {}
            }
            heard = Instant::now();
            continue;
        }
        connection.pump();
        if connection
            .heartbeat_every()
            .is_some_and(|every| wrote.elapsed() >= every)
        {
            connection.heartbeat();
        }
        if connection.closed() && connection.out.is_empty() && !unflushed {
            return writer.shutdown().await;
        }
        if heard.elapsed() > patience {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer is silent",
            ));
        }
        let to_write = !connection.out.is_empty() || unflushed;
        waiting = to_write.then(|| waiting.unwrap_or_else(Instant::now));
        if waiting.is_some_and(|since| since.elapsed() > STUCK) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer does not read",
            ));
        }
        input.reserve(INPUT);
        tokio::select! {
            read = reader.read_buf(&mut input), if !connection.closed() => {
                if read? == 0 {
                    return Ok(());
                }
                heard = Instant::now();
                connection.feed(&mut input);
            }
            written = flush(&mut writer, &mut connection.out, &mut unflushed), if to_write => {
                written?;
                wrote = Instant::now();
                waiting = None;
            }
            () = registered.wake.notified() => {}
            () = sleep(TICK) => {}
        }
    }
}

/// Writes some of `out`, and flushes when all is written. Cancelled, it loses nothing.
async fn flush<W: AsyncWrite + Unpin>(
    writer: &mut W,
    out: &mut BytesMut,
    unflushed: &mut bool,
) -> io::Result<()> {
    if !out.is_empty() {
        *unflushed = true;
        writer.write_buf(out).await?;
    }
    if out.is_empty() {
        writer.flush().await?;
        *unflushed = false;
    }
    Ok(())
}
