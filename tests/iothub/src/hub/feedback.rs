//! What services hear of their cloud-to-device messages.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::sleep;

use crate::{
    c2d::C2dMessage,
    feedback::{Added, Fate, Record},
    identity::Identity,
};

use super::{Hub, now_ms, registry::Registered};

/// The application property that asks for feedback.
const ACK: &str = "iothub-ack";

/// Whether the sender wants to hear of this.
fn wanted(message: &C2dMessage, fate: Fate) -> bool {
    let asked = message.properties.iter().find(|(name, _)| name == ACK);
    let ack = asked.map_or("none", |(_, value)| value.as_str());
    match fate {
        Fate::Success => matches!(ack, "positive" | "full"),
        Fate::Expired | Fate::DeliveryCountExceeded | Fate::Purged => {
            matches!(ack, "negative" | "full")
        }
    }
}

impl Hub {
    /// Tells of what has fallen out of a device's queue.
    pub(super) fn tell_fallen(self: &Arc<Self>, identity: &Identity, registered: &mut Registered) {
        for (message, fate) in registered.queue.fallen() {
            self.tell_fate(identity, registered, &message, fate);
        }
    }

    pub(super) fn tell_fate(
        self: &Arc<Self>,
        identity: &Identity,
        registered: &Registered,
        message: &C2dMessage,
        fate: Fate,
    ) {
        if !wanted(message, fate) {
            return;
        }
        let added = self.feedback.add(Record {
            original_message_id: message.message_id.clone().unwrap_or_default(),
            enqueued_time_utc: Timestamp::now(),
            status_code: fate,
            description: fate,
            device_id: identity.device_id().to_owned(),
            device_generation_id: registered.generation().to_owned(),
        });
        match added {
            Added::More => {}
            Added::Full => self.connections.wake_all(),
            Added::First => {
                let hub = Arc::downgrade(self);
                let every = self.settings.feedback_every;
                tokio::spawn(async move {
                    sleep(every).await;
                    if let Some(hub) = hub.upgrade() {
                        hub.feedback.flush();
                        hub.connections.wake_all();
                    }
                });
            }
        }
    }

    /// Looks after a message when it expires: no device may ask for it.
    pub(super) fn watch_expiry(self: &Arc<Self>, identity: &Identity, message: &C2dMessage) {
        let Some(expires) = message.expires.filter(|_| wanted(message, Fate::Expired)) else {
            return;
        };
        // One that is past is due now.
        let left = Duration::from_millis(u64::try_from(expires - now_ms()).unwrap_or(0));
        let (hub, identity) = (Arc::downgrade(self), identity.clone());
        tokio::spawn(async move {
            sleep(left).await;
            let Some(hub) = hub.upgrade() else { return };
            if let Some(registered) = hub.identities().get_mut(&identity) {
                registered.queue.expire(now_ms());
                hub.tell_fallen(&identity, registered);
            }
        });
    }
}
