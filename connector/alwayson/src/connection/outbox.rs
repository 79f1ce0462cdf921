//! Answers on their way to the platform.
//!
//! The platform takes the answer to a request on any WebSocket of the endpoint. So answers wait in one place, and
//! whichever WebSocket can write takes the next: none is lost because a queue is full, or with a WebSocket that dies.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::node::Load;

/// Frames of answers that may wait, of 8 KiB at most. Nothing more is read from the platform while there are so
/// many; how many may yet be added is bounded by the requests that are being served.
pub(super) const MAX_WAITING: usize = 4096;

/// The frames of one answer.
type Answer = Vec<Bytes>;

/// Answers that wait to be written on any WebSocket of an endpoint.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Something waits.
    some: Notify,
    /// There is room again.
    room: Notify,
    load: Arc<Load>,
}

#[derive(Debug, Default)]
struct Waiting {
    answers: VecDeque<Answer>,
    frames: usize,
}

impl Outbox {
    pub(super) fn new(load: Arc<Load>) -> Self {
        Self {
            waiting: Mutex::default(),
            some: Notify::new(),
            room: Notify::new(),
            load,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in between can fail.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frames that wait.
    pub(super) fn frames(&self) -> usize {
        self.waiting().frames
    }

    /// Puts an answer in the line.
    pub(super) fn push(&self, frames: Vec<Vec<u8>>) {
        let answer: Answer = frames.into_iter().map(Bytes::from).collect();
        self.load.queued.fetch_add(answer.len(), Ordering::Relaxed);
        let mut waiting = self.waiting();
        waiting.frames += answer.len();
        waiting.answers.push_back(answer);
        drop(waiting);
        self.some.notify_one();
    }

    /// Waits until there may be something to take. Whoever is told so takes, or the next is not told.
    pub(super) async fn some(&self) {
        self.some.notified().await;
    }

    /// Waits until the platform may send more.
    pub(super) async fn room(&self) {
        loop {
            let told = self.room.notified();
            if self.frames() < MAX_WAITING {
                return;
            }
            told.await;
        }
    }

    /// Takes answers of about so many frames, those that have waited longest.
    pub(super) fn take(&self, frames: usize) -> Taken<'_> {
        let mut waiting = self.waiting();
        let mut answers = Vec::new();
        let mut taken = 0;
        while taken < frames
            && let Some(answer) = waiting.answers.pop_front()
        {
            taken += answer.len();
            answers.push(answer);
        }
        waiting.frames -= taken;
        let more = !waiting.answers.is_empty();
        drop(waiting);
        self.load.queued.fetch_sub(taken, Ordering::Relaxed);
        if more {
            self.some.notify_one();
        }
        self.room.notify_waiters();
        Taken {
            outbox: self,
            answers,
            begun: 0,
        }
    }

    /// Drops all, since nobody waits for them any more; tells how many.
    pub(super) fn clear(&self) -> usize {
        self.take(usize::MAX).sent()
    }
}

/// Answers that are being written. What has not been when this is dropped goes to another WebSocket.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    outbox: &'a Outbox,
    answers: Vec<Answer>,
    /// How many of them have been handed to this WebSocket, the last one perhaps in part.
    begun: usize,
}

impl Taken<'_> {
    /// The frames of the next answer to write.
    pub(super) fn next(&mut self) -> Option<Answer> {
        let answer = self.answers.get(self.begun)?.clone();
        self.begun += 1;
        Some(answer)
    }

    /// All are on their way; tells how many.
    pub(super) fn sent(mut self) -> usize {
        std::mem::take(&mut self.answers).len()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // Of what was begun nobody knows whether it has arrived. A second answer is dropped by the platform, as one is
        // that comes too late; but parts that come twice might spoil a message.
        let begun = self.begun;
        let mut answers = std::mem::take(&mut self.answers);
        let mut at = 0..;
        answers.retain(|answer| at.next() >= Some(begun) || answer.len() == 1);
        if answers.is_empty() {
            return;
        }
        let frames = answers.iter().map(Vec::len).sum();
        let load = &self.outbox.load;
        load.queued.fetch_add(frames, Ordering::Relaxed);
        let mut waiting = self.outbox.waiting();
        waiting.frames += frames;
        for answer in answers.into_iter().rev() {
            waiting.answers.push_front(answer);
        }
        drop(waiting);
        self.outbox.some.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of so many frames that bear its number.
    fn answer(number: u8, frames: usize) -> Vec<Vec<u8>> {
        vec![vec![number]; frames]
    }

    fn outbox(answers: impl IntoIterator<Item = (u8, usize)>) -> Outbox {
        let outbox = Outbox::new(Arc::default());
        for (number, frames) in answers {
            outbox.push(answer(number, frames));
        }
        outbox
    }

    /// Numbers of all that wait, in their order.
    fn numbers(outbox: &Outbox) -> Vec<u8> {
        let waiting = outbox.waiting();
        waiting.answers.iter().map(|answer| answer[0][0]).collect()
    }

    fn counted(outbox: &Outbox) -> (usize, usize) {
        (outbox.frames(), outbox.load.queued.load(Ordering::Relaxed))
    }

    #[test]
    fn what_a_dead_websocket_has_not_written_goes_to_another_in_its_order() {
        let outbox = outbox([(1, 1), (2, 3), (3, 3), (4, 1), (5, 1)]);
        let mut taken = outbox.take(8);
        assert_eq!(numbers(&outbox), [5]);
        assert_eq!(counted(&outbox), (1, 1));
        let _ = (taken.next(), taken.next());
        drop(taken);
        // Parts of the second may have arrived: those cannot come again.
        assert_eq!(numbers(&outbox), [1, 3, 4, 5]);
        assert_eq!(counted(&outbox), (6, 6));
        assert_eq!(outbox.take(4).sent(), 2);
        assert_eq!(outbox.clear(), 2);
        assert_eq!(counted(&outbox), (0, 0));
    }

    #[tokio::test]
    async fn each_websocket_that_waits_is_told_while_something_is_left() {
        let outbox = outbox([(1, 1), (2, 1)]);
        for _ in 0..2 {
            outbox.some().await;
            assert_eq!(outbox.take(1).sent(), 1);
        }
    }
}
