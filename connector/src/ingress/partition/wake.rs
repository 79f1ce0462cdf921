//! Whether this process has been standing still: suspended, or starved of its processor.
//!
//! A process that stood still may have been declared dead meanwhile, and somebody else may be writing
//! what came later. Whoever looks here *before* anything is sent finds out in time.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// The task is woken at least this often.
const TICK: Duration = Duration::from_millis(500);
/// A tick so much too late is no accident of scheduling; far below the 8 s of silence after which a
/// member counts as dead.
const LATE: Duration = Duration::from_secs(1);

/// Watches the time between two polls of the task that it belongs to.
pub struct Wake {
    last: Instant,
    tick: Interval,
}

impl Wake {
    /// Begins to watch.
    pub fn new() -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            last: Instant::now(),
            tick,
        }
    }

    /// Ends, with how long it was, once the task has stood still. To be polled before everything else.
    pub async fn stood_still(&mut self) -> Duration {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// The time until now does not count: nothing could be sent.
    pub fn rest(&mut self) {
        self.last = Instant::now();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let now = Instant::now();
        let still = now - self.last;
        self.last = now;
        // Each tick only sees to the next poll.
        while self.tick.poll_tick(cx).is_ready() {}
        if still > TICK + LATE {
            Poll::Ready(still)
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_polled_in_time_has_not_stood_still() {
        let mut wake = Wake::new();
        let watched = timeout(Duration::from_secs(60), wake.stood_still()).await;
        assert!(watched.is_err(), "{watched:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_seen_once_at_the_first_poll_after_it() {
        let mut wake = Wake::new();
        let _ = timeout(Duration::from_secs(2), wake.stood_still()).await;
        advance(Duration::from_secs(10)).await;
        assert!(wake.stood_still().await >= Duration::from_secs(10));
        let again = timeout(Duration::from_secs(60), wake.stood_still()).await;
        assert!(again.is_err(), "{again:?}");
    }
}
