//! What the hub has last said of a device and its modules, kept while its lane lives.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

use super::{
    notice::{ConnectionChange, Order},
    twin::Twin,
};

/// Larger twins are read anew for each change: thousands of devices with twins of the hub's full 72 KiB
/// would fill a pod.
const MAX_TWIN: usize = 16 << 10;

/// A module; none is the device itself.
type Module = Option<Arc<str>>;

/// What the hub has last said. Takes no room while that is nothing, as of most devices.
#[derive(Debug, Default)]
pub struct Shadow(Option<Box<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    twins: HashMap<Module, Twin>,
    connections: HashMap<Module, Order>,
    unreadable_until: Option<Instant>,
}

impl Shadow {
    fn seen(&mut self) -> &mut Seen {
        self.0.get_or_insert_default()
    }

    /// The twin, as far as it is known.
    #[must_use]
    pub fn twin(&self, module: &Module) -> Option<&Twin> {
        self.0.as_ref()?.twins.get(module)
    }

    /// Takes the twin out, to change it.
    pub fn take_twin(&mut self, module: &Module) -> Option<Twin> {
        self.0.as_mut()?.twins.remove(module)
    }

    /// Remembers a twin.
    pub fn put_twin(&mut self, module: &Module, twin: Twin) {
        if twin.bytes() <= MAX_TWIN {
            self.seen().twins.insert(module.clone(), twin);
        }
    }

    /// Its twins could not be read, and are not tried before `until`.
    pub fn unreadable(&mut self, until: Instant) {
        self.seen().unreadable_until = Some(until);
    }

    /// Its twins could not be read a moment ago.
    #[must_use]
    pub fn is_unreadable(&self, now: Instant) -> bool {
        let seen = self.0.as_ref();
        seen.and_then(|seen| seen.unreadable_until)
            .is_some_and(|until| now < until)
    }

    /// Whether a change of the connection is newer than what was seen; then it is remembered. The hub
    /// does not promise the order of these events, only their numbers.
    pub fn is_news(&mut self, change: &ConnectionChange) -> bool {
        let Some(order) = &change.order else {
            return true;
        };
        let connections = &mut self.seen().connections;
        let seen = connections.get(&change.module);
        if seen.is_some_and(|seen| seen >= order) {
            return false;
        }
        connections.insert(change.module.clone(), order.clone());
        true
    }

    /// The device was created or deleted: nothing of what is known holds.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}
