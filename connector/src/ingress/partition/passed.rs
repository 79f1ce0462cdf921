//! What is passed, from there until it is settled: at once, or when its letter is stored or given up.

use std::sync::Arc;

use iothub::Event;

use super::Reader;
use crate::ingress::{
    decode::Undecodable,
    letter::{Letter, Passed},
    pass::{Detail, Pass, Reason, Why},
};

impl Reader {
    /// Passes an event that says nothing of any Thing.
    pub(super) fn undecodable(&mut self, event: Event, fault: &Undecodable) {
        let reason = match fault {
            Undecodable::Kind(_) => Reason::Kind,
            _ => Reason::Protocol,
        };
        let pass = Pass {
            reason,
            thing: event.device.clone().unwrap_or_default(),
            message: fault.to_string(),
            detail: Detail::None,
        };
        if reason == Reason::Kind || self.ingress.letters.is_none() {
            self.low.settle(event.sequence);
        } else {
            let passed = Passed {
                why: vec![Arc::new(Why::from(&pass))],
                event: Arc::new(event),
            };
            self.post(pass.thing.as_str().into(), passed);
        }
        self.ingress.passes.pass(pass);
    }

    /// Posts the letter of a passed event, which is settled when that is done with.
    pub(super) fn post(&mut self, thing: Arc<str>, passed: Passed) {
        let sequence = passed.event.sequence;
        let Some(letters) = &self.ingress.letters else {
            self.low.settle(sequence);
            return;
        };
        let posted = letters.post(Letter::of(passed, thing, self.id.clone()));
        self.letters.push(Box::pin(async move {
            posted.await;
            sequence
        }));
    }
}
