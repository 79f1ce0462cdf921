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
    connection: u64,
    // Holds at most as many as requests were let in: see `MAX_INCOMING` of the endpoint.
    replies: mpsc::UnboundedSender<Reply>,
}

/// The answer to a request, on its way to the endpoint.
#[derive(Debug)]
pub(super) struct Reply {
    /// What identifies the request.
    pub(super) header: Header,
    /// The connection that it came by, of all that the endpoint has had.
    pub(super) connection: u64,
    pub(super) response: Response,
}

impl Incoming {
    pub(super) fn new(
        node: Arc<str>,
        request: Request,
        header: Header,
        connection: u64,
        replies: mpsc::UnboundedSender<Reply>,
    ) -> Self {
        Self {
            node,
            request,
            received: Instant::now(),
            answer: Some(Answer {
                header,
                connection,
                replies,
            }),
        }
    }

    /// Answers it. If the connection is gone the answer goes nowhere.
    pub fn reply(mut self, response: Response) {
        self.send(response);
    }

    fn send(&mut self, response: Response) {
        if let Some(answer) = self.answer.take() {
            let Answer {
                header,
                connection,
                replies,
            } = answer;
            let _ = replies.send(Reply {
                header,
                connection,
                response,
            });
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
