//! How much of what was read may wait in memory, over all partitions of this process.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use super::low_water::ReadAhead;

/// Bytes of messages, as they lie in memory, past the marks of all partitions. They lie there up to three
/// times: as read, as values, and as the request that is sent. With 32 partitions before a slow platform
/// the process stays below 150 MiB, and this is still ten thousand small messages.
const ALL: usize = 16 << 20;
/// Bytes on their way from the hub on the links of all partitions.
const ON_THE_WAY: u64 = 16 << 20;

/// Shared by the partitions of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    sharers: Arc<AtomicUsize>,
    event: Arc<AtomicU64>,
}

/// A partition's part in the memory; given back when dropped.
#[derive(Debug)]
pub struct Share(Arc<AtomicUsize>);

impl Memory {
    /// Another partition takes part.
    #[must_use]
    pub fn share(&self) -> Share {
        self.sharers.fetch_add(1, Ordering::Relaxed);
        Share(self.sharers.clone())
    }

    /// What an event of some partition takes on its way from the hub, in bytes: the first guess for
    /// another's.
    #[must_use]
    pub fn event(&self) -> Option<u64> {
        Some(self.event.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// An event of some partition takes so many bytes.
    pub fn has_event(&self, bytes: u64) {
        self.event.store(bytes, Ordering::Relaxed);
    }

    /// How much may be on its way from the hub for one partition, in bytes.
    #[must_use]
    pub fn on_the_way(&self) -> u64 {
        ON_THE_WAY / self.sharers.load(Ordering::Relaxed).max(1) as u64
    }

    /// How far one partition may read ahead now.
    #[must_use]
    pub fn read_ahead(&self) -> ReadAhead {
        let own = ReadAhead::default();
        let sharers = self.sharers.load(Ordering::Relaxed).max(1);
        ReadAhead {
            bytes: own.bytes.min(ALL / sharers),
            ..own
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_partitions_share_what_a_few_have_each() {
        let memory = Memory::default();
        let first = memory.share();
        assert_eq!(memory.read_ahead().bytes, ReadAhead::default().bytes);
        let more: Vec<Share> = (1..32).map(|_| memory.share()).collect();
        assert_eq!(memory.read_ahead().bytes, ALL / 32);
        drop((first, more));
        assert_eq!(memory.read_ahead().bytes, ReadAhead::default().bytes);
    }
}
