//! Whether this process has gone deaf: the API server answers, and yet one of the watches hears nothing. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// The server counts as away when nothing was answered for this long: each watch asks anew every 20 s, and
/// whoever takes part in an election every second or two.
const AWAY: Duration = Duration::from_secs(30);

/// Since when the API server has been answering without a gap, and when it did last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Server(Option<(Instant, Instant)>);

impl Server {
    /// It has answered at `now`, as one that works does.
    pub fn answered(&mut self, now: Instant) {
        let since = match self.0 {
            Some((since, last)) if now.saturating_duration_since(last) < AWAY => since,
            _ => now,
        };
        self.0 = Some((since, now));
    }

    /// Whether a watch that was last fresh at `fresh` is deaf: for as long as `patience` the server has answered
    /// others and not it. While the server is away nobody is, and after that all have that long to come back.
    #[must_use]
    pub fn is_deaf(&self, fresh: Instant, patience: Duration, now: Instant) -> bool {
        let Some((since, last)) = self.0 else {
            return false;
        };
        let there = now.saturating_duration_since(last) < AWAY;
        there && now.saturating_duration_since(fresh.max(since)) >= patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(150);

    /// The server answers each second from `from` to `to`.
    fn answers(server: &mut Server, start: Instant, from: u64, to: u64) {
        for second in from..=to {
            server.answered(start + Duration::from_secs(second));
        }
    }

    #[test]
    fn a_watch_is_deaf_when_only_others_are_answered() {
        let (mut server, start) = (Server::default(), Instant::now());
        let deaf = |server: &Server, fresh: u64, now: u64| {
            let at = |second| start + Duration::from_secs(second);
            server.is_deaf(at(fresh), PATIENCE, at(now))
        };
        assert!(!deaf(&server, 0, 1000), "nobody was ever answered");
        answers(&mut server, start, 0, 160);
        assert!(!deaf(&server, 20, 160));
        assert!(deaf(&server, 10, 160));
        assert!(!deaf(&server, 10, 200), "the server is away");
        answers(&mut server, start, 1000, 1100);
        assert!(!deaf(&server, 10, 1100), "it has just come back");
        answers(&mut server, start, 1101, 1150);
        assert!(deaf(&server, 10, 1150), "all others are back");
    }
}
