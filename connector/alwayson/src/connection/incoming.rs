//! Requests of the platform.

use std::sync::Arc;

use tokio::{sync::mpsc, time::Instant};

use crate::{Header, Request, Response, Status};

/// A request of the platform, which must be answered.
#[derive(Debug)]
pub struct Incoming {
    /// The node it came from.
    pub node: Arc<str>,
    /// What is asked.
    pub request: Request,
    /// When it arrived.
    pub received: Instant,
    answer: Option<Answer>,
}

#[derive(Debug)]
struct Answer {
    header: Header,
    // Holds at most as many as requests were let in: see `MAX_INCOMING` of the endpoint.
    replies: mpsc::UnboundedSender<(Header, Response)>,
}

impl Incoming {
    pub(super) fn new(
        node: Arc<str>,
        request: Request,
        header: Header,
        replies: mpsc::UnboundedSender<(Header, Response)>,
    ) -> Self {
        Self {
            node,
            request,
            received: Instant::now(),
            answer: Some(Answer { header, replies }),
        }
    }

    /// Answers it. If the connection is gone the answer goes nowhere.
    pub fn reply(mut self, response: Response) {
        self.send(response);
    }

    fn send(&mut self, response: Response) {
        if let Some(Answer { header, replies }) = self.answer.take() {
            let _ = replies.send((header, response));
        }
    }
}

impl Drop for Incoming {
    /// Whoever asked must not wait for a time-out because of a fault here.
    fn drop(&mut self) {
        self.send(Response::error(
            Status::INTERNAL_ERROR,
            "the request was not answered",
        ));
    }
}
