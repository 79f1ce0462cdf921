//! From what is bound to what is wanted, one question at a time. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::bind::{BindState, DesiredBinds, NamesState, gateway_bind, group_bind};
use crate::{Bind, Body, CHUNK, Response};

/// Names of one bind: they must fit into one frame, with room for the header.
const BATCH_BYTES: usize = CHUNK - 64;
/// Names of one bind at most: what it takes to find the one at fault among them is bounded.
const BATCH_NAMES: usize = 500;
/// The pause after a refusal is doubled so often: thousands of names that somebody else has are not asked for all the
/// time.
const LONGEST: u32 = 3;
/// Characters of a reason that are kept for each name: a platform repeats the whole message in it.
const REASON: usize = 200;
/// A name on the wire has its length before it.
const LENGTH_BYTES: usize = 2;

/// A question to the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    BindGateway,
    BindGroup,
    BindNames(Vec<Arc<str>>),
    UnbindNames(Vec<Arc<str>>),
    UnbindGateway,
    UnbindGroup,
}

impl Step {
    fn body(&self, wanted: &DesiredBinds, bound: &DesiredBinds) -> Body {
        let thing = |binds: &DesiredBinds| binds.group.as_ref().map(|group| group.thing.clone());
        match self {
            Self::UnbindGroup => Body::Unbind(Bind::names(thing(bound).as_deref())),
            Self::UnbindGateway => {
                let name = bound.gateway.as_ref().map(|gateway| gateway.name.as_str());
                Body::Unbind(Bind::names(name))
            }
            Self::BindGateway => Body::Bind(
                wanted
                    .gateway
                    .as_ref()
                    .map_or_else(|| Bind::names(None), gateway_bind),
            ),
            Self::BindGroup => Body::Bind(
                wanted
                    .group
                    .as_ref()
                    .map_or_else(|| Bind::names(None), group_bind),
            ),
            Self::BindNames(names) => Body::Bind(Bind::names(names.iter().map(AsRef::as_ref))),
            Self::UnbindNames(names) => Body::Unbind(Bind::names(names.iter().map(AsRef::as_ref))),
        }
    }
}

/// What is bound, what is wanted, and what was asked last.
#[derive(Debug, Default)]
pub(super) struct Binding {
    wanted: DesiredBinds,
    /// What the node has confirmed. Its names are kept apart.
    bound: DesiredBinds,
    /// What was wanted when the question was asked: its answer speaks of this, whatever is wanted since.
    asked_for: DesiredBinds,
    /// Something is being asked.
    asking: Option<Step>,
    /// Nothing is asked before.
    retry: Option<Instant>,
    names: Names,
}

/// Names beyond the gateway's and the group's.
#[derive(Debug, Default)]
struct Names {
    bound: BTreeSet<Arc<str>>,
    /// To be bound, in batches; a batch that is refused comes back as halves.
    batches: VecDeque<Vec<Arc<str>>>,
    /// Bound and no longer wanted, in batches.
    unbinds: VecDeque<Vec<Arc<str>>>,
    /// Refused one by one.
    refused: BTreeMap<Arc<str>, Refused>,
}

/// A name that the node refuses.
#[derive(Debug)]
struct Refused {
    /// When it is tried again.
    again: Instant,
    /// How often it has been refused.
    times: u32,
    reason: String,
}

impl Names {
    /// Forgets what is no longer wanted, and puts what is new into batches.
    fn want(&mut self, wanted: &BTreeSet<Arc<str>>) {
        self.refused.retain(|name, _| wanted.contains(name));
        let missing = wanted
            .iter()
            .filter(|name| !self.bound.contains(*name) && !self.refused.contains_key(*name));
        self.batches = batches(missing.cloned()).into();
        self.unbinds = batches(self.bound.difference(wanted).cloned()).into();
    }

    /// The next to bind; refused ones when their time has come, together: whoever held them has perhaps let go of
    /// them together.
    fn next(&mut self, now: Instant) -> Option<Vec<Arc<str>>> {
        self.batches.pop_front().or_else(|| {
            let due = self.refused.iter().filter(|(_, one)| one.again <= now);
            batches(due.map(|(name, _)| name.clone()).take(BATCH_NAMES))
                .into_iter()
                .next()
        })
    }

    /// They were refused together: halved, until the one at fault stands alone.
    fn refuse(&mut self, mut names: Vec<Arc<str>>, now: Instant, pause: Duration, reason: &str) {
        if names.len() > 1 {
            let half = names.split_off(names.len() / 2);
            self.batches.push_front(half);
            self.batches.push_front(names);
        } else if let Some(name) = names.pop() {
            let times = self.refused.get(&name).map_or(0, |one| one.times);
            let refused = Refused {
                again: now + pause * (1 << times.min(LONGEST)),
                times: times.saturating_add(1),
                reason: reason.chars().take(REASON).collect(),
            };
            self.refused.insert(name, refused);
        }
    }
}

/// Names in messages that each fit into one frame.
fn batches(names: impl Iterator<Item = Arc<str>>) -> Vec<Vec<Arc<str>>> {
    let mut batches: Vec<Vec<Arc<str>>> = Vec::new();
    let mut room = 0;
    for name in names {
        let bytes = name.len() + LENGTH_BYTES;
        match batches.last_mut() {
            Some(batch) if bytes <= room && batch.len() < BATCH_NAMES => batch.push(name),
            _ => {
                room = BATCH_BYTES;
                batches.push(vec![name]);
            }
        }
        room = room.saturating_sub(bytes);
    }
    batches
}

impl Binding {
    /// Something else is wanted.
    pub(super) fn want(&mut self, wanted: DesiredBinds) {
        if !Arc::ptr_eq(&self.wanted.names, &wanted.names) {
            self.names.want(&wanted.names);
        }
        self.wanted = wanted;
        self.retry = None;
    }

    /// The connection is gone, and all that was bound with it.
    pub(super) fn lost(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        *self = Self::default();
        self.names.want(&wanted.names);
        self.wanted = wanted;
    }

    /// The next question, if one may be asked now. It counts as asked.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Step, Body)> {
        if self.asking.is_some() || self.retry.is_some_and(|at| now < at) {
            return None;
        }
        self.retry = None;
        let step = self.step(now)?;
        let body = step.body(&self.wanted, &self.bound);
        self.asked_for = self.wanted.clone();
        self.asking = Some(step.clone());
        Some((step, body))
    }

    fn step(&mut self, now: Instant) -> Option<Step> {
        let (wanted, bound) = (&self.wanted, &self.bound);
        if bound.group.is_some() && bound.group != wanted.group {
            return Some(Step::UnbindGroup);
        }
        if let Some(names) = self.names.unbinds.pop_front() {
            return Some(Step::UnbindNames(names));
        }
        if bound.gateway.is_some() && bound.gateway != wanted.gateway {
            return Some(Step::UnbindGateway);
        }
        if wanted.gateway.is_some() && bound.gateway.is_none() {
            return Some(Step::BindGateway);
        }
        if wanted.group.is_some() && bound.group.is_none() {
            return Some(Step::BindGroup);
        }
        self.names.next(now).map(Step::BindNames)
    }

    /// The question could not be sent; it is asked again at `again`.
    pub(super) fn unsent(&mut self, step: Step, again: Instant) {
        self.asking = None;
        match step {
            Step::BindNames(names) => self.names.batches.push_front(names),
            Step::UnbindNames(names) => self.names.unbinds.push_front(names),
            _ => {}
        }
        self.retry = Some(again);
    }

    /// The node has answered. A refused bind is asked again after `pause`.
    pub(super) fn answered(
        &mut self,
        step: Step,
        response: &Response,
        now: Instant,
        pause: Duration,
    ) {
        self.asking = None;
        let refused = response.is_error();
        match step {
            Step::BindNames(names) if refused => {
                let reason = words(response);
                self.names.refuse(names, now, pause, &reason);
            }
            Step::BindNames(names) => {
                for name in &names {
                    self.names.refused.remove(name);
                }
                let wanted = &self.wanted.names;
                let late = names.iter().filter(|name| !wanted.contains(*name)).cloned();
                // A frame has held them before.
                self.names.unbinds.extend(batches(late));
                self.names.bound.extend(names);
            }
            // What cannot be unbound is not bound, or goes with the connection.
            Step::UnbindNames(names) => {
                for name in &names {
                    self.names.bound.remove(name);
                }
                // Wanted again meanwhile.
                let wanted = &self.wanted.names;
                let again = names.into_iter().filter(|name| wanted.contains(name));
                self.names.batches.extend(batches(again));
            }
            Step::BindGateway | Step::BindGroup if refused => self.retry = Some(now + pause),
            Step::BindGateway => self.bound.gateway = self.asked_for.gateway.take(),
            Step::BindGroup => self.bound.group = self.asked_for.group.take(),
            Step::UnbindGateway => self.bound.gateway = None,
            Step::UnbindGroup => self.bound.group = None,
        }
    }

    /// What is known of the gateway, given what was known.
    pub(super) fn gateway(&self, state: &mut BindState) {
        // What is being asked for is not unwanted yet: the node is about to bind it.
        let wanted = self.wanted.gateway.is_some() || self.asking == Some(Step::BindGateway);
        say(state, wanted, self.bound.gateway.is_some());
    }

    /// What is known of the group, given what was known.
    pub(super) fn group(&self, state: &mut BindState) {
        let wanted = self.wanted.group.is_some() || self.asking == Some(Step::BindGroup);
        say(state, wanted, self.bound.group.is_some());
    }

    /// What is known of the other names.
    pub(super) fn names(&self) -> NamesState {
        NamesState {
            wanted: self.wanted.names.len(),
            bound: self.names.bound.len(),
            refused: self.names.refused.len(),
            reason: self
                .names
                .refused
                .iter()
                .next()
                .map(|(name, one)| format!("{name}: {}", one.reason)),
        }
    }
}

/// Why the node refuses.
pub(super) fn words(response: &Response) -> String {
    response
        .error_text()
        .unwrap_or_else(|| response.status.name().to_owned())
}

/// What is bound stays so until the node has confirmed its end; a refusal stays to be seen until it is
/// bound or no longer wanted.
fn say(state: &mut BindState, wanted: bool, bound: bool) {
    *state = match (wanted, bound) {
        (_, true) => BindState::Bound,
        (true, false) if matches!(state, BindState::Refused { .. }) => return,
        (true, false) => BindState::Pending,
        (false, false) => BindState::Unwanted,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gateway, Status};

    const PAUSE: Duration = Duration::from_secs(10);

    fn wanted(names: impl IntoIterator<Item = Arc<str>>) -> DesiredBinds {
        DesiredBinds {
            gateway: Some(Gateway {
                name: "me".into(),
                template: "ConnectionServer".into(),
            }),
            names: Arc::new(names.into_iter().collect()),
            ..DesiredBinds::default()
        }
    }

    fn names(count: usize) -> impl Iterator<Item = Arc<str>> {
        (0..count).map(|number| format!("device-{number:06}").into())
    }

    /// Answers until nothing more is asked; tells how many questions there were.
    fn settle(binding: &mut Binding, now: Instant, refuse: impl Fn(&str) -> bool) -> usize {
        let mut asked = 0;
        while let Some((step, body)) = binding.next(now) {
            asked += 1;
            let refused = match &body {
                Body::Bind(bind) => bind.names.iter().any(&refuse),
                _ => false,
            };
            let response = match refused {
                true => Response::error(Status::INTERNAL_ERROR, "already bound"),
                false => Response::ok(),
            };
            binding.answered(step, &response, now, PAUSE);
        }
        asked
    }

    #[test]
    fn names_are_bound_in_batches_that_fit_into_a_frame() {
        let (mut binding, now) = (Binding::default(), Instant::now());
        binding.want(wanted(names(2_000)));
        let asked = settle(&mut binding, now, |_| false);
        let batch = BATCH_NAMES.min(BATCH_BYTES / 15);
        assert_eq!(asked, 1 + 2_000_usize.div_ceil(batch));
        assert_eq!(binding.names().bound, 2_000);
        binding.want(wanted(names(10)));
        settle(&mut binding, now, |_| false);
        assert_eq!(binding.names().bound, 10);
    }

    #[test]
    fn one_name_that_is_refused_holds_up_no_other_and_is_tried_again() {
        let (mut binding, now) = (Binding::default(), Instant::now());
        binding.want(wanted(names(500)));
        let refuse = |name: &str| name == "device-000123";
        assert!(
            settle(&mut binding, now, refuse) < 30,
            "halved, not one by one"
        );
        let state = binding.names();
        assert_eq!((state.bound, state.refused), (499, 1));
        assert_eq!(
            state.reason.as_deref(),
            Some("device-000123: already bound")
        );
        assert_eq!(settle(&mut binding, now + PAUSE / 2, refuse), 0);
        assert_eq!(settle(&mut binding, now + PAUSE, |_| false), 1);
        assert_eq!(binding.names().bound, 500);
    }

    #[test]
    fn many_that_are_refused_are_bound_together_once_they_are_free_and_asked_for_ever_more_seldom()
    {
        let (mut binding, now) = (Binding::default(), Instant::now());
        binding.want(wanted(names(300)));
        let held = |name: &str| name.starts_with("device");
        settle(&mut binding, now, held);
        assert_eq!(binding.names().refused, 300);
        settle(&mut binding, now + PAUSE, held);
        assert_eq!(settle(&mut binding, now + 2 * PAUSE, |_| false), 0);
        assert_eq!(settle(&mut binding, now + 3 * PAUSE, |_| false), 1);
        assert_eq!(binding.names().bound, 300);
    }

    #[test]
    fn what_is_wanted_differently_while_it_is_asked_for_ends_right() {
        let (mut binding, now) = (Binding::default(), Instant::now());
        binding.want(wanted(names(2)));
        settle(&mut binding, now, |_| false);
        binding.want(wanted(names(1)));
        let (unbind, _) = binding.next(now).unwrap();
        assert_eq!(unbind, Step::UnbindNames(vec!["device-000001".into()]));
        binding.want(wanted(names(3)));
        binding.answered(unbind, &Response::ok(), now, PAUSE);
        settle(&mut binding, now, |_| false);
        assert_eq!(binding.names().bound, 3);
        binding.want(wanted(names(4)));
        let (bind, _) = binding.next(now).unwrap();
        binding.want(wanted(names(1)));
        binding.answered(bind, &Response::ok(), now, PAUSE);
        settle(&mut binding, now, |_| false);
        assert_eq!(binding.names().bound, 1);
    }

    #[test]
    fn a_new_connection_binds_everything_again() {
        let (mut binding, now) = (Binding::default(), Instant::now());
        binding.want(wanted(names(3)));
        settle(&mut binding, now, |_| false);
        binding.lost();
        assert_eq!(binding.names().bound, 0);
        assert_eq!(settle(&mut binding, now, |_| false), 2);
        assert_eq!(binding.names().bound, 3);
    }
}
