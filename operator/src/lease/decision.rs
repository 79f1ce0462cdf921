//! Who may write, decided from what was read and when. Pure: the clock is the caller's own, and only
//! differences of it count.

use std::time::Duration;

use tokio::time::Instant;

/// The times of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A record that has not changed for so long is nobody's.
    pub duration: Duration,
    /// A holder that could not renew for so long stops: before the others may take over, whatever is
    /// under way then.
    pub deadline: Duration,
    /// Between two tries.
    pub retry: Duration,
}

impl Default for Timing {
    /// client-go's 15 and 10 s; tried each second, so that a release is noticed at once.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            retry: Duration::from_secs(1),
        }
    }
}

/// The record as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who holds it; empty if nobody does.
    pub holder: String,
    /// How long the holder says that it lasts.
    pub duration: Duration,
    /// Changes with each write.
    pub version: String,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Look at the record.
    Read,
    /// Write the own name over the record that was seen: create, take or renew.
    Write,
    /// Stop: it was held and is not any more.
    Lost(String),
}

/// One who would like to write.
#[derive(Debug)]
pub struct Candidate {
    me: String,
    timing: Timing,
    /// What was seen last, and since when it has been so. `None`: there is none.
    seen: Option<(Seen, Instant)>,
    /// The record must be read before anything is decided by it.
    unsure: bool,
    /// When the request was begun by which the record became ours, or was renewed.
    renewed: Option<Instant>,
}

impl Candidate {
    /// Nothing is known.
    #[must_use]
    pub fn new(me: &str, timing: Timing) -> Self {
        Self {
            me: me.to_owned(),
            timing,
            seen: None,
            unsure: true,
            renewed: None,
        }
    }

    /// The own name.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }

    /// The times.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Until when it may write; `None` if it may not.
    #[must_use]
    pub fn leads_until(&self) -> Option<Instant> {
        Some(self.renewed? + self.timing.deadline)
    }

    /// What to do now.
    #[must_use]
    pub fn step(&self, now: Instant) -> Step {
        if let Some(until) = self.leads_until()
            && now >= until
        {
            let deadline = self.timing.deadline;
            return Step::Lost(format!("it could not be renewed for {deadline:?}"));
        }
        match (&self.seen, self.renewed) {
            _ if self.unsure => Step::Read,
            (Some((seen, _)), Some(_)) if seen.holder == self.me => Step::Write,
            (Some((seen, _)), Some(_)) => Step::Lost(format!("{:?} holds it", seen.holder)),
            (None, Some(_)) => Step::Lost("it was deleted".to_owned()),
            (None, None) => Step::Write,
            (Some(_), None) if now >= self.free_at(now) => Step::Write,
            (Some(_), None) => Step::Read,
        }
    }

    /// How long to wait before the next step.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Duration {
        match self.step(now) {
            // Something has just been found out.
            Step::Write if self.renewed.is_none() => Duration::ZERO,
            Step::Lost(_) => Duration::ZERO,
            // Renewing more often than three times in the deadline proves nothing more.
            Step::Write => self.timing.deadline / 5,
            // Not later than the record runs out.
            Step::Read if !self.unsure => self.timing.retry.min(self.free_at(now) - now),
            Step::Read => self.timing.retry,
        }
    }

    /// When the record that was seen is nobody's, if it does not change before.
    fn free_at(&self, now: Instant) -> Instant {
        match &self.seen {
            Some((seen, since)) if !seen.holder.is_empty() => {
                *since + seen.duration.max(self.timing.duration)
            }
            _ => now,
        }
    }

    /// The record was read; the answer came at `now`.
    pub fn saw(&mut self, seen: Option<Seen>, now: Instant) {
        self.unsure = false;
        let same = match (&self.seen, &seen) {
            (Some((old, _)), Some(new)) => old == new,
            _ => false,
        };
        if !same {
            self.seen = seen.map(|seen| (seen, now));
        }
    }

    /// The own name was written by a request that was begun at `begun`.
    pub fn wrote(&mut self, seen: Seen, begun: Instant) {
        self.renewed = Some(begun);
        self.seen = Some((seen, begun));
    }

    /// A write has failed, or its answer was lost.
    pub fn look_again(&mut self) {
        self.unsure = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMING: Timing = Timing {
        duration: Duration::from_secs(15),
        deadline: Duration::from_secs(10),
        retry: Duration::from_secs(1),
    };

    fn seen(holder: &str, version: u64) -> Seen {
        Seen {
            holder: holder.to_owned(),
            duration: TIMING.duration,
            version: version.to_string(),
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_record_is_taken_when_it_has_not_changed_for_its_duration() {
        let start = Instant::now();
        let mut me = Candidate::new("me", TIMING);
        assert_eq!(me.step(start), Step::Read);
        me.saw(Some(seen("other", 1)), start);
        assert_eq!(me.step(after(start, 14)), Step::Read);
        me.saw(Some(seen("other", 2)), after(start, 14));
        assert_eq!(me.step(after(start, 28)), Step::Read, "it was renewed");
        let almost = after(start, 29) - Duration::from_millis(300);
        assert_eq!(me.pause(almost), Duration::from_millis(300));
        assert_eq!(me.pause(after(start, 20)), TIMING.retry);
        assert_eq!(me.step(after(start, 29)), Step::Write);
        me.saw(Some(seen("", 3)), after(start, 20));
        assert_eq!(me.step(after(start, 20)), Step::Write, "it was released");
        me.saw(None, after(start, 21));
        assert_eq!(me.step(after(start, 21)), Step::Write, "there is none");
    }

    #[test]
    fn a_holder_stops_before_another_may_begin() {
        let start = Instant::now();
        let mut me = Candidate::new("me", TIMING);
        me.wrote(seen("me", 1), start);
        me.unsure = false;
        assert_eq!(me.step(after(start, 2)), Step::Write);
        me.look_again();
        assert_eq!(me.step(after(start, 3)), Step::Read, "an answer was lost");
        assert!(matches!(me.step(after(start, 10)), Step::Lost(_)));
        me.wrote(seen("me", 2), after(start, 9));
        me.saw(Some(seen("other", 3)), after(start, 9));
        assert!(matches!(me.step(after(start, 9)), Step::Lost(_)));
        me.saw(None, after(start, 9));
        assert!(matches!(me.step(after(start, 9)), Step::Lost(_)));
    }

    /// One candidate among several in a world where requests are late, fail, or are carried out although
    /// their answers are lost, and where processes stand still.
    struct Member {
        candidate: Candidate,
        /// It does nothing until then.
        busy: u64,
        over: bool,
    }

    #[derive(Debug, Clone)]
    struct Move {
        who: usize,
        /// Tenths of a second: until the request reaches the server, and until its answer is back.
        there: u64,
        back: u64,
        lost: bool,
        /// How much later the next one moves.
        later: u64,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let late = prop_oneof![8 => 0_u64..5, 1 => 0_u64..40, 1 => 100_u64..400];
        let one = (0..3_usize, late.clone(), late, any::<bool>(), 0..20_u64);
        let one = one.prop_map(|(who, there, back, lost, later)| Move {
            who,
            there,
            back,
            lost: lost && there % 3 == 0,
            later,
        });
        proptest::collection::vec(one, 1..300)
    }

    proptest! {
        /// Whoever leads has begun the request of its last renewal within the deadline; nobody else can
        /// have taken the record before its duration has passed since.
        #[test]
        fn two_never_lead_at_the_same_time(moves in moves()) {
            let start = Instant::now();
            let at = |tenths: u64| start + Duration::from_millis(tenths * 100);
            let mut record: Option<Seen> = None;
            let mut version = 0;
            // When the record was last written, and by whom: what the server knows.
            let mut spans: Vec<(usize, u64, u64)> = Vec::new();
            let names = ["a", "b", "c"];
            let mut members: Vec<Member> = names
                .iter()
                .map(|name| Member {
                    candidate: Candidate::new(name, TIMING),
                    busy: 0,
                    over: false,
                })
                .collect();
            let mut now = 0;
            // Requests on their way reach the server in the order of their arrival.
            for Move { who, there, back, lost, later } in moves {
                now += later;
                let member = &mut members[who];
                if member.over || member.busy > now {
                    continue;
                }
                let begun = now;
                match member.candidate.step(at(begun)) {
                    Step::Lost(_) => member.over = true,
                    Step::Read => {
                        let answer = record.clone();
                        member.busy = begun + back;
                        if lost {
                            continue;
                        }
                        // What it saw was so when the server was asked, not later.
                        member.candidate.saw(answer, at(begun + back));
                    }
                    Step::Write => {
                        // The world stands still until the request has arrived: the worst is that its
                        // sender does, too.
                        now += there;
                        let expected = member.candidate.seen.as_ref().map(|(seen, _)| &seen.version);
                        let guarded = expected == record.as_ref().map(|record| &record.version);
                        member.busy = now + back;
                        if !guarded {
                            member.candidate.look_again();
                            continue;
                        }
                        version += 1;
                        let written = seen(names[who], version);
                        record = Some(written.clone());
                        if lost {
                            member.candidate.look_again();
                            continue;
                        }
                        member.candidate.wrote(written, at(begun));
                        // It leads from the answer on, unless that is too late already.
                        let (from, until) = (now + back, begun + TIMING.deadline.as_millis() as u64 / 100);
                        if from < until {
                            spans.push((who, from, until));
                        }
                    }
                }
            }
            for (index, one) in spans.iter().enumerate() {
                for other in &spans[index + 1..] {
                    let apart = one.0 == other.0 || one.2 <= other.1 || other.2 <= one.1;
                    prop_assert!(apart, "{one:?} and {other:?} lead at the same time");
                }
            }
        }
    }
}
