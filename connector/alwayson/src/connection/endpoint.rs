//! The one task that owns an endpoint's state: ids, binds, what is asked and not yet answered.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_tungstenite::tungstenite::{
    Message as Frame,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;

use super::{
    bind::{BindState, DesiredBinds, NamesState},
    binding::{Binding, Step, words},
    error::{ConnectError, RequestError},
    incoming::{Incoming, Reply},
    node::{Credentials, Link, Load, NodeSettings, NodeState},
    outbox::Outbox,
    pipe::{self, Event, Ids, NO_IDS, Queued, Shared},
};
use crate::{Assembler, Body, CHUNK, Header, Limits, Message, Request, Response, Status, split};

/// Requests of the platform that are being served at the same time, and frames of answers that wait to be written.
/// More are answered "unavailable".
const MAX_INCOMING: usize = 4096;
/// How often forgotten requests and refused binds are looked after.
const SWEEP: Duration = Duration::from_secs(1);
/// Events of the WebSockets that wait for this task.
const EVENTS: usize = 256;

/// What the handle asks for.
#[derive(Debug)]
pub(super) enum Command {
    Request {
        request: Box<Request>,
        reply: oneshot::Sender<Result<Response, RequestError>>,
    },
    Ping {
        reply: oneshot::Sender<()>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

/// What an endpoint is made of.
pub(super) struct Parts {
    pub(super) settings: NodeSettings,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) requests: mpsc::Sender<Incoming>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) wanted: watch::Receiver<DesiredBinds>,
    pub(super) load: Arc<Load>,
    pub(super) shutdown: CancellationToken,
}

/// Starts the endpoint's tasks.
pub(super) fn start(parts: Parts) -> watch::Receiver<NodeState> {
    let Parts {
        settings,
        credentials,
        requests,
        commands,
        wanted,
        load,
        shutdown,
    } = parts;
    let (events, from_pipes) = mpsc::channel(EVENTS);
    let (ids, known_ids) = watch::channel((NO_IDS, false));
    // Ends the WebSockets with the endpoint, whichever way it ends.
    let end = shutdown.child_token();
    let outbox = Arc::new(Outbox::new(load.clone()));
    let shared = Shared {
        settings: settings.clone(),
        credentials: credentials.clone(),
        events,
        ids: known_ids,
        load: load.clone(),
        outbox: outbox.clone(),
        shutdown: end.clone(),
    };
    for index in 0..usize::from(settings.pipes.get()) {
        tokio::spawn(pipe::keep(index, shared.clone()));
    }
    let down = NodeState {
        link: Link::Down { error: None },
        gateway: BindState::Unwanted,
        group: BindState::Unwanted,
        names: NamesState::default(),
    };
    let (state, seen) = watch::channel(down);
    let (replies, answers) = mpsc::unbounded_channel();
    let endpoint = Endpoint {
        settings,
        credentials,
        requests,
        load,
        ids,
        state,
        replies,
        pipes: Vec::new(),
        turn: 0,
        next_id: 1,
        asked: HashMap::new(),
        logging_in: None,
        pings: HashMap::new(),
        assembler: Assembler::new(Limits::default()),
        connection: 0,
        incoming: 0,
        outbox,
        unanswered: 0,
        binding: Binding::default(),
    };
    tokio::spawn(endpoint.run(commands, wanted, from_pipes, answers, end));
    seen
}

struct Endpoint {
    settings: NodeSettings,
    credentials: Arc<dyn Credentials>,
    requests: mpsc::Sender<Incoming>,
    load: Arc<Load>,
    ids: watch::Sender<(Ids, bool)>,
    state: watch::Sender<NodeState>,
    replies: mpsc::UnboundedSender<Reply>,
    /// The WebSockets that are up.
    pipes: Vec<(usize, mpsc::Sender<Queued>)>,
    /// Which of them is next.
    turn: usize,
    next_id: u32,
    asked: HashMap<u32, Asked>,
    /// Requests that were refused with "invalid session" and wait for a new login.
    logging_in: Option<Vec<Waiting>>,
    pings: HashMap<u64, (usize, oneshot::Sender<()>)>,
    assembler: Assembler,
    /// Counts the times that all WebSockets were down.
    connection: u64,
    incoming: usize,
    outbox: Arc<Outbox>,
    /// Requests whose answers went nowhere, since it was last told.
    unanswered: usize,
    binding: Binding,
}

struct Waiting {
    request: Box<Request>,
    reply: oneshot::Sender<Result<Response, RequestError>>,
}

enum Asked {
    Request { waiting: Waiting, repeated: bool },
    LogIn(Instant),
    Bind(Step, Instant),
}

impl Endpoint {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut wanted: watch::Receiver<DesiredBinds>,
        mut events: mpsc::Receiver<Event>,
        mut answers: mpsc::UnboundedReceiver<Reply>,
        end: CancellationToken,
    ) {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                Some(event) = events.recv() => self.event(event),
                Some(reply) = answers.recv() => self.reply(reply),
                command = commands.recv() => match command {
                    Some(Command::Close { reply }) => {
                        while let Ok(reply) = answers.try_recv() {
                            self.reply(reply);
                        }
                        self.close();
                        // The peers' answers to the close end the WebSockets.
                        let _ = tokio::time::timeout(Duration::from_secs(2), async {
                            while !self.pipes.is_empty() {
                                let Some(event) = events.recv().await else { break };
                                self.event(event);
                            }
                        })
                        .await;
                        let _ = reply.send(());
                        break;
                    }
                    Some(command) => self.command(command),
                    // Nobody has a handle any more, so nobody could ask or answer.
                    None => break,
                },
                Ok(()) = wanted.changed() => {
                    let wanted = wanted.borrow_and_update().clone();
                    self.binding.want(wanted);
                    self.bind();
                }
                _ = sweep.tick() => self.sweep(),
            }
        }
        end.cancel();
        self.all_down(None);
    }

    // ---- WebSockets ----

    fn event(&mut self, event: Event) {
        match event {
            Event::Up { pipe, ids, frames } => {
                let first = self.pipes.is_empty();
                self.pipes.push((pipe, frames));
                if first || self.ids.borrow().0.endpoint == ids.endpoint {
                    self.ids.send_replace((ids, true));
                }
                if first {
                    tracing::info!(node = %self.settings.name, "logged in");
                    self.load.up.store(true, Ordering::Relaxed);
                    self.bind();
                    self.tell(|state| state.link = Link::Up);
                }
            }
            Event::Frame { bytes } => self.frame(&bytes),
            Event::Pong { payload } => self.pong(&payload),
            Event::Down { pipe, error } => {
                self.pipes.retain(|(index, _)| *index != pipe);
                if self.pipes.is_empty() {
                    self.all_down(Some(error));
                }
            }
        }
    }

    fn all_down(&mut self, error: Option<ConnectError>) {
        if self.load.up.swap(false, Ordering::Relaxed) {
            tracing::warn!(node = %self.settings.name, ?error, "disconnected");
        }
        self.ids.send_modify(|(_, up)| *up = false);
        self.binding.lost();
        self.pings.clear();
        // The platform forgets with the endpoint what it has asked it.
        self.connection += 1;
        self.unanswered += self.outbox.clear();
        let waiting = self.logging_in.take().into_iter().flatten();
        let asked = self.asked.drain().filter_map(|(_, asked)| match asked {
            Asked::Request { waiting, .. } => Some(waiting),
            Asked::LogIn(_) | Asked::Bind(..) => None,
        });
        for Waiting { reply, .. } in asked.chain(waiting) {
            let _ = reply.send(Err(RequestError::Lost));
        }
        self.tell(|state| {
            state.link = Link::Down { error };
            // What was refused is history.
            state.gateway = BindState::Unwanted;
            state.group = BindState::Unwanted;
        });
        self.tell_binds();
    }

    fn close(&mut self) {
        for (_, frames) in &self.pipes {
            let close = CloseFrame {
                code: CloseCode::Normal,
                reason: "Normal Close".into(),
            };
            let _ = frames.try_send(Frame::Close(Some(close)).into());
        }
    }

    /// Hands frames to the next WebSocket that takes them all.
    fn send(&mut self, message: &Message) -> Result<(), RequestError> {
        let frames = split(message, CHUNK).map_err(RequestError::TooLarge)?;
        let pipes = self.pipes.len();
        for offset in 0..pipes {
            let (_, pipe) = &self.pipes[(self.turn + offset) % pipes];
            if let Ok(permits) = pipe.try_reserve_many(frames.len()) {
                self.load.queued.fetch_add(frames.len(), Ordering::Relaxed);
                for (permit, frame) in permits.zip(frames) {
                    permit.send(Frame::binary(frame).into());
                }
                self.turn = (self.turn + offset + 1) % pipes;
                return Ok(());
            }
        }
        Err(RequestError::NotSent)
    }

    // ---- requests of ours ----

    fn header(&mut self) -> Header {
        let request_id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        // Endpoint 0 in what a client asks is the C SDK's practice.
        Header {
            request_id,
            endpoint_id: 0,
            session_id: self.ids.borrow().0.session,
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Request { request, reply } => self.ask(Waiting { request, reply }, false),
            Command::Ping { reply } => self.ping(reply),
            Command::Close { .. } => {}
        }
    }

    fn ask(&mut self, waiting: Waiting, repeated: bool) {
        if waiting.reply.is_closed() {
            return;
        }
        if let Some(queue) = &mut self.logging_in {
            queue.push(waiting);
            return;
        }
        let header = self.header();
        let message = Message {
            header,
            body: Body::Request((*waiting.request).clone()),
        };
        match self.send(&message) {
            Ok(()) => {
                self.asked
                    .insert(header.request_id, Asked::Request { waiting, repeated });
            }
            Err(error) => {
                let _ = waiting.reply.send(Err(error));
            }
        }
    }

    fn ping(&mut self, reply: oneshot::Sender<()>) {
        let id = u64::from(self.next_id);
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let payload = Bytes::copy_from_slice(&id.to_be_bytes());
        let sent = self
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.try_send(Frame::Ping(payload.clone()).into()).is_ok())
            .count();
        if sent > 0 {
            self.pings.insert(id, (sent, reply));
        }
    }

    fn pong(&mut self, payload: &[u8]) {
        let Ok(id) = payload.try_into().map(u64::from_be_bytes) else {
            return;
        };
        if let Some((missing, _)) = self.pings.get_mut(&id) {
            *missing -= 1;
            if *missing == 0
                && let Some((_, reply)) = self.pings.remove(&id)
            {
                let _ = reply.send(());
            }
        }
    }

    // ---- what comes ----

    fn frame(&mut self, bytes: &[u8]) {
        let message = match self.assembler.push(std::time::Instant::now(), bytes) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(node = %self.settings.name, %error, "an unreadable message was ignored");
                return;
            }
        };
        match message.body {
            Body::Response(response) => self.answered(message.header, response),
            Body::Request(request) => self.asked(message.header, request),
            other => {
                tracing::debug!(node = %self.settings.name, kind = other.kind(), "ignored");
            }
        }
    }

    /// Answers are matched by the request id alone; those to nothing we asked are late, and dropped.
    fn answered(&mut self, header: Header, response: Response) {
        match self.asked.remove(&header.request_id) {
            None => {}
            Some(Asked::Bind(step, _)) => self.bind_answered(step, &response),
            Some(Asked::LogIn(_)) => self.logged_in_again(header, &response),
            Some(Asked::Request { waiting, repeated }) => {
                if response.status == Status::INVALID_SESSION && !repeated {
                    self.log_in_again(waiting);
                } else {
                    let _ = waiting.reply.send(Ok(response));
                }
            }
        }
    }

    fn log_in_again(&mut self, waiting: Waiting) {
        if let Some(queue) = &mut self.logging_in {
            queue.push(waiting);
            return;
        }
        let claims = match self.credentials.claims() {
            Ok(claims) => claims,
            Err(error) => {
                tracing::warn!(node = %self.settings.name, error, "no application key to log in again");
                let _ = waiting.reply.send(Err(RequestError::Lost));
                return;
            }
        };
        let endpoint_id = self.ids.borrow().0.endpoint;
        let header = Header {
            endpoint_id,
            session_id: -1,
            ..self.header()
        };
        let message = Message {
            header,
            body: Body::Auth(claims.into_iter().collect()),
        };
        if self.send(&message).is_ok() {
            self.asked
                .insert(header.request_id, Asked::LogIn(Instant::now()));
            self.logging_in = Some(vec![waiting]);
        } else {
            let _ = waiting.reply.send(Err(RequestError::NotSent));
        }
    }

    fn logged_in_again(&mut self, header: Header, response: &Response) {
        let queue = self.logging_in.take().unwrap_or_default();
        if response.is_error() {
            self.credentials.refused();
            for Waiting { reply, .. } in queue {
                let _ = reply.send(Ok(response.clone()));
            }
            // Without a session nothing works any more. The next connection tells why, in its turn.
            self.close();
            return;
        }
        self.credentials.accepted();
        self.ids
            .send_modify(|(ids, _)| ids.session = header.session_id);
        for waiting in queue {
            self.ask(waiting, true);
        }
    }

    fn asked(&mut self, header: Header, request: Request) {
        let unavailable = |what: &str| Response::error(Status::SERVICE_UNAVAILABLE, what);
        if self.incoming + self.outbox.frames() >= MAX_INCOMING {
            return self.answer(header, unavailable("too many requests are being served"));
        }
        self.incoming += 1;
        let incoming = Incoming::new(
            self.settings.name.clone(),
            request,
            header,
            self.connection,
            self.replies.clone(),
        );
        if let Err(error) = self.requests.try_send(incoming) {
            // The answer goes the way of all answers, so that the count stays right.
            error
                .into_inner()
                .reply(unavailable("the connector takes no more requests now"));
        }
    }

    fn reply(&mut self, reply: Reply) {
        let Reply {
            header,
            connection,
            response,
        } = reply;
        self.incoming -= 1;
        if connection == self.connection {
            self.answer(header, response);
        } else {
            // Its number may be that of another request by now.
            self.unanswered += 1;
        }
    }

    fn answer(&mut self, header: Header, response: Response) {
        let status = response.status;
        let frames = |response: Response| {
            let body = Body::Response(response);
            split(&Message { header, body }, CHUNK)
        };
        let frames = frames(response).or_else(|error| {
            tracing::warn!(node = %self.settings.name, %error, status = status.name(), "no way to answer");
            frames(Response::error(Status::ENTITY_TOO_LARGE, error.to_string()))
        });
        match frames {
            Ok(frames) => self.outbox.push(frames),
            Err(_) => self.unanswered += 1,
        }
    }

    // ---- binds ----

    /// Takes the next step from what is bound to what is wanted.
    fn bind(&mut self) {
        let now = Instant::now();
        let next = (!self.pipes.is_empty())
            .then(|| self.binding.next(now))
            .flatten();
        if let Some((step, body)) = next {
            let header = self.header();
            match self.send(&Message { header, body }) {
                Ok(()) => {
                    self.asked.insert(header.request_id, Asked::Bind(step, now));
                }
                Err(error) => {
                    tracing::debug!(node = %self.settings.name, %error, "a bind waits");
                    self.binding.unsent(step, now + SWEEP);
                }
            }
        }
        self.tell_binds();
    }

    fn bind_answered(&mut self, step: Step, response: &Response) {
        let node = &self.settings.name;
        match &step {
            Step::BindGateway | Step::BindGroup if response.is_error() => {
                let reason = words(response);
                tracing::warn!(%node, ?step, reason, "bind refused");
                let refused = BindState::Refused { reason };
                self.tell(|state| match step {
                    Step::BindGateway => state.gateway = refused,
                    _ => state.group = refused,
                });
            }
            // Their number and one reason are in the state; a line for each would be thousands.
            Step::BindNames(names) | Step::UnbindNames(names) => {
                let (count, refused) = (names.len(), response.is_error());
                tracing::debug!(%node, count, refused, "names were bound or unbound");
            }
            step => tracing::info!(%node, ?step, "done"),
        }
        let pause = self.settings.timings.refused;
        self.binding.answered(step, response, Instant::now(), pause);
        self.bind();
    }

    fn tell_binds(&mut self) {
        let binding = &self.binding;
        self.tell(|state| {
            binding.gateway(&mut state.gateway);
            binding.group(&mut state.group);
            state.names = binding.names();
        });
    }

    fn tell(&self, change: impl FnOnce(&mut NodeState)) {
        self.state.send_if_modified(|state| {
            let before = state.clone();
            change(state);
            *state != before
        });
    }

    fn sweep(&mut self) {
        let lost = std::mem::take(&mut self.unanswered);
        if lost > 0 {
            tracing::warn!(node = %self.settings.name, lost, "answers came after the connection was lost");
        }
        let late = self.settings.timings.answer;
        let mut unanswered = None;
        let mut logging_in = true;
        self.asked.retain(|_, asked| match asked {
            // Whoever asked has given up; an answer that comes yet is dropped.
            Asked::Request { waiting, .. } => !waiting.reply.is_closed(),
            Asked::LogIn(since) => {
                logging_in = since.elapsed() < late;
                logging_in
            }
            Asked::Bind(step, since) if since.elapsed() >= late => {
                unanswered = Some(step.clone());
                false
            }
            Asked::Bind(..) => true,
        });
        self.pings.retain(|_, (_, reply)| !reply.is_closed());
        if !logging_in {
            // Lost with the WebSocket that carried it, or the node is ill: the next refusal tries again.
            for Waiting { reply, .. } in self.logging_in.take().into_iter().flatten() {
                let _ = reply.send(Err(RequestError::Lost));
            }
        }
        if let Some(step) = unanswered {
            let reason = format!("no answer within {} s", late.as_secs());
            self.bind_answered(step, &Response::error(Status::GATEWAY_TIMEOUT, reason));
        }
        self.bind();
    }
}
