//! A connection without its socket: bytes in, bytes out.

use std::{collections::BTreeMap, time::Duration};

use bytes::{BufMut as _, BytesMut};

use super::{
    Face,
    error::{AmqpError, condition},
    frame::{AMQP_HEADER, Frame, FrameKind, SASL_HEADER, take_frame, take_header, write_frame},
    performative::{self, Open, Performative},
    sasl,
    session::{OUTPUT, Session},
};

/// Largest frame either way: what Event Hubs says.
const MAX_FRAME: u32 = 65536;
/// Smallest that a peer may ask for (AMQP 1.0, 2.7.1).
const MIN_FRAME: u32 = 512;
/// A peer that says nothing for so long is gone; milliseconds. Event Hubs says four minutes.
pub(super) const IDLE_TIMEOUT: u32 = 240_000;
/// Sessions of a connection.
const MAX_SESSIONS: usize = 256;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The SASL header is awaited.
    Start,
    /// The peer's login is awaited.
    Login,
    /// The AMQP header is awaited.
    LoggedIn,
    /// `open` is awaited.
    Header,
    /// Open.
    Open,
    /// Closed by either side.
    Closed,
}

/// A connection and what its links mean.
pub(crate) struct Connection<F> {
    face: F,
    phase: Phase,
    peer: Open,
    sessions: BTreeMap<u16, Session>,
    /// To be written.
    pub(super) out: BytesMut,
}

impl<F: Face> Connection<F> {
    pub(crate) fn new(face: F) -> Self {
        Self {
            face,
            phase: Phase::Start,
            peer: Open {
                max_frame_size: MIN_FRAME,
                idle_timeout: 0,
            },
            sessions: BTreeMap::new(),
            out: BytesMut::new(),
        }
    }

    /// Nothing more will be read or written beyond what waits in `out`.
    pub(super) fn closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// How often the peer must hear from us.
    pub(super) fn heartbeat_every(&self) -> Option<Duration> {
        let timeout = self.peer.idle_timeout;
        (self.phase == Phase::Open && timeout > 0)
            .then(|| Duration::from_millis((timeout / 2).max(100).into()))
    }

    /// Writes an empty frame.
    pub(super) fn heartbeat(&mut self) {
        write_frame(&mut self.out, FrameKind::Amqp, 0, |_| {});
    }

    /// Takes what has arrived; leaves what is not whole yet.
    pub(super) fn feed(&mut self, input: &mut BytesMut) {
        while !self.closed() {
            let more = match self.phase {
                Phase::Start | Phase::LoggedIn => self.header(input),
                _ => self.frame(input),
            };
            match more {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => self.fail(&error),
            }
        }
    }

    fn header(&mut self, input: &mut BytesMut) -> Result<bool, AmqpError> {
        let Some(header) = take_header(input) else {
            return Ok(false);
        };
        match (self.phase, header) {
            (Phase::Start, SASL_HEADER) => {
                self.out.put_slice(&SASL_HEADER);
                write_frame(&mut self.out, FrameKind::Sasl, 0, sasl::mechanisms);
                self.phase = Phase::Login;
            }
            (Phase::LoggedIn, AMQP_HEADER) => {
                self.out.put_slice(&AMQP_HEADER);
                self.phase = Phase::Header;
            }
            // AMQP 1.0, 2.2: the answer to a header that is not taken is one that would be.
            (Phase::Start, _) => {
                self.out.put_slice(&SASL_HEADER);
                self.phase = Phase::Closed;
            }
            _ => {
                self.out.put_slice(&AMQP_HEADER);
                self.phase = Phase::Closed;
            }
        }
        Ok(true)
    }

    fn frame(&mut self, input: &mut BytesMut) -> Result<bool, AmqpError> {
        let Some(frame) = take_frame(input, MAX_FRAME)? else {
            return Ok(false);
        };
        let wanted = match self.phase {
            Phase::Login => FrameKind::Sasl,
            _ => FrameKind::Amqp,
        };
        if frame.kind != wanted {
            return Err(AmqpError::new(
                condition::FRAMING_ERROR,
                "a frame of the other layer",
            ));
        }
        if wanted == FrameKind::Sasl {
            let accepted = sasl::init(frame.body)?.is_some_and(|login| self.face.login(&login));
            write_frame(&mut self.out, FrameKind::Sasl, 0, |body| {
                sasl::outcome(body, accepted);
            });
            self.phase = if accepted {
                Phase::LoggedIn
            } else {
                Phase::Closed
            };
        } else {
            self.performative(frame)?;
        }
        Ok(true)
    }

    fn performative(&mut self, frame: Frame) -> Result<(), AmqpError> {
        let Frame { channel, body, .. } = frame;
        let performative = Performative::decode(body)?;
        if self.phase == Phase::Header {
            return match performative {
                Performative::Open(open) => {
                    self.open(open);
                    Ok(())
                }
                Performative::Heartbeat => Ok(()),
                _ => Err(AmqpError::new(condition::NOT_ALLOWED, "open comes first")),
            };
        }
        let Self {
            face,
            sessions,
            out,
            ..
        } = self;
        let no_session = || {
            let text = format!("no session has begun on channel {channel}");
            AmqpError::new(condition::NOT_ALLOWED, text)
        };
        let session = sessions.get_mut(&channel).ok_or_else(no_session);
        match performative {
            Performative::Heartbeat => {}
            Performative::Disposition(body) => {
                // Of a session that has ended nothing is waited for.
                if let Ok(session) = session {
                    session.on_disposition(face, body, out)?;
                }
            }
            Performative::Open(_) => {
                return Err(AmqpError::new(condition::NOT_ALLOWED, "open came twice"));
            }
            Performative::Begin(begin) => {
                if session.is_ok() || sessions.len() >= MAX_SESSIONS {
                    return Err(AmqpError::new(
                        condition::NOT_ALLOWED,
                        "too many sessions, or one has begun on this channel",
                    ));
                }
                sessions.insert(channel, Session::begin(channel, &begin, out));
            }
            Performative::Attach(attach) => session?.attach(face, &attach, out),
            Performative::Flow(flow) => session?.on_flow(&flow, out),
            Performative::Transfer(transfer) => session?.on_transfer(face, &transfer, out)?,
            Performative::Detach { handle, closed } => {
                // Microsoft's Python client ends a session first and detaches its links afterwards.
                if let Ok(session) = session {
                    session.on_detach(face, handle, closed, out);
                }
            }
            Performative::End => {
                if let Some(mut session) = sessions.remove(&channel) {
                    session.end(face);
                    write_frame(out, FrameKind::Amqp, channel, |body| {
                        performative::end(body, None);
                    });
                }
            }
            Performative::Close => self.close(None),
        }
        Ok(())
    }

    fn open(&mut self, open: Open) {
        self.peer = Open {
            max_frame_size: open.max_frame_size.clamp(MIN_FRAME, MAX_FRAME),
            ..open
        };
        self.phase = Phase::Open;
        let Self { face, out, .. } = self;
        write_frame(out, FrameKind::Amqp, 0, |body| {
            performative::open(body, face.container(), MAX_FRAME, IDLE_TIMEOUT);
        });
    }

    fn close(&mut self, error: Option<&AmqpError>) {
        for session in self.sessions.values_mut() {
            session.end(&mut self.face);
        }
        self.sessions.clear();
        write_frame(&mut self.out, FrameKind::Amqp, 0, |body| {
            performative::close(body, error);
        });
        self.phase = Phase::Closed;
    }

    fn fail(&mut self, error: &AmqpError) {
        tracing::info!(
            condition = error.condition,
            why = error.description,
            "closing"
        );
        match self.phase {
            Phase::Open | Phase::Header => self.close(Some(error)),
            // Before that no frame exists that could carry the reason.
            _ => self.phase = Phase::Closed,
        }
    }

    /// Writes what links have for the peer, a frame each in turn, until there is enough.
    pub(super) fn pump(&mut self) {
        if self.phase != Phase::Open {
            return;
        }
        let Self {
            face,
            sessions,
            out,
            peer,
            ..
        } = self;
        let mut progress = true;
        while progress && out.len() < OUTPUT {
            progress = false;
            for session in sessions.values_mut() {
                progress |= session.pump(face, peer.max_frame_size as usize, out);
            }
        }
    }
}
