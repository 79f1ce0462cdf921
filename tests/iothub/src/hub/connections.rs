//! Open connections of all faces, so that faults can reach them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::fault::FaceName;

#[derive(Debug)]
struct Entry {
    face: FaceName,
    device: Option<String>,
    wake: Arc<Notify>,
    dropped: CancellationToken,
    mute: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    next: u64,
}

/// All open connections.
#[derive(Debug, Default)]
pub struct Connections(Arc<Mutex<Table>>);

/// One open connection; leaves the table when dropped.
#[derive(Debug)]
pub struct Connection {
    table: Arc<Mutex<Table>>,
    id: u64,
    /// Which face it belongs to.
    pub face: FaceName,
    /// Notified when there may be something to do.
    pub wake: Arc<Notify>,
    /// Cancelled when the connection is to be closed without a word.
    pub dropped: CancellationToken,
    mute: Arc<AtomicBool>,
}

fn with<T>(table: &Mutex<Table>, f: impl FnOnce(&mut Table) -> T) -> T {
    f(&mut table.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Connections {
    pub(super) fn open(&self, face: FaceName) -> Connection {
        let wake = Arc::new(Notify::new());
        let dropped = CancellationToken::new();
        let mute = Arc::new(AtomicBool::new(false));
        let id = with(&self.0, |table| {
            table.next += 1;
            let entry = Entry {
                face,
                device: None,
                wake: Arc::clone(&wake),
                dropped: dropped.clone(),
                mute: Arc::clone(&mute),
            };
            table.entries.insert(table.next, entry);
            table.next
        });
        Connection {
            table: Arc::clone(&self.0),
            id,
            face,
            wake,
            dropped,
            mute,
        }
    }

    /// Those of a face that are open now neither read nor write any more.
    pub(super) fn mute(&self, face: FaceName) {
        with(&self.0, |table| {
            for entry in table.entries.values().filter(|entry| entry.face == face) {
                entry.mute.store(true, Ordering::Relaxed);
                entry.wake.notify_one();
            }
        });
    }

    pub(super) fn drop_matching(&self, face: Option<FaceName>, device: Option<&str>) {
        with(&self.0, |table| {
            for entry in table.entries.values() {
                let face_fits = face.is_none_or(|face| face == entry.face);
                let device_fits =
                    device.is_none_or(|device| entry.device.as_deref() == Some(device));
                if face_fits && device_fits {
                    entry.dropped.cancel();
                }
            }
        });
    }

    /// All look whether there is something for them.
    pub(crate) fn wake_all(&self) {
        with(&self.0, |table| {
            for entry in table.entries.values() {
                entry.wake.notify_one();
            }
        });
    }

    /// How many connections of `face` are open.
    #[must_use]
    pub fn count(&self, face: FaceName) -> usize {
        with(&self.0, |table| {
            table
                .entries
                .values()
                .filter(|entry| entry.face == face)
                .count()
        })
    }
}

impl Connection {
    /// Whether nothing is read or written any more.
    #[must_use]
    pub fn is_mute(&self) -> bool {
        self.mute.load(Ordering::Relaxed)
    }

    /// Says which device it is.
    pub fn belongs_to(&self, device: &str) {
        with(&self.table, |table| {
            if let Some(entry) = table.entries.get_mut(&self.id) {
                entry.device = Some(device.to_owned());
            }
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        with(&self.table, |table| table.entries.remove(&self.id));
    }
}
