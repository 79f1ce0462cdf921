//! Connected devices: at most one connection per identity, the newest wins.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    c2d::{C2dMessage, LockToken},
    feedback::Fate,
    identity::Identity,
    receipt::Received,
    twin::BadPatch,
};

use super::{
    Hub, now_ms,
    registry::{Live, Registered},
};

/// How much may wait to be written to one device. A device that reads nothing loses method calls,
/// as with the real hub; cloud-to-device messages stay in their queue.
const MAILBOX: usize = 256;

/// What a device can subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscription {
    /// Cloud-to-device messages, acknowledged (QoS 1) or not.
    C2d {
        /// Whether the device acknowledges.
        acknowledged: bool,
    },
    /// Direct methods.
    Methods,
    /// Answers to twin requests.
    TwinAnswers,
    /// Changes of desired properties.
    Desired,
    /// Messages to a module's inputs; accepted, never sent (they need a router of edge modules).
    Inputs,
}

impl Subscription {
    fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// What the hub has for a connected device.
#[derive(Debug, Clone)]
pub enum ToDevice {
    /// A cloud-to-device message waits in the queue.
    C2dWaiting,
    /// A direct method.
    Method {
        /// Request id.
        rid: u64,
        /// Name of the method.
        name: String,
        /// What it is called with, as JSON.
        payload: Value,
    },
    /// A change of desired properties.
    Desired {
        /// New version.
        version: u64,
        /// The patch.
        patch: Value,
    },
}

/// A device's connection as the hub sees it. Ends when dropped.
#[derive(Debug)]
pub struct DeviceSession {
    hub: Arc<Hub>,
    identity: Identity,
    session: u64,
    /// What the hub has for the device.
    pub mailbox: mpsc::Receiver<ToDevice>,
    /// Cancelled when the device connects anew, is disabled or deleted.
    pub taken_over: CancellationToken,
    /// Whether subscriptions of an earlier connection live on.
    pub resumed: bool,
}

impl Registered {
    /// Sends to the connected device if it has such a subscription and room.
    pub(super) fn send_if(&self, needed: &Subscription, message: ToDevice) -> bool {
        let subscribed = self.subscriptions.iter().any(|s| s.same_kind(needed));
        match &self.live {
            Some(live) if subscribed => live.mailbox.try_send(message).is_ok(),
            _ => false,
        }
    }

    fn holds(&self, session: u64) -> bool {
        self.live
            .as_ref()
            .is_some_and(|live| live.session == session)
    }
}

impl Hub {
    /// Connects an identity; closes its earlier connection. `None` if it has just been deleted.
    pub fn start_session(
        self: &Arc<Self>,
        identity: &Identity,
        clean: bool,
    ) -> Option<DeviceSession> {
        let session = self.number();
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let taken_over = CancellationToken::new();
        let resumed = {
            let mut identities = self.identities();
            let registered = identities.get_mut(identity)?;
            if let Some(old) = registered.live.take() {
                old.taken_over.cancel();
            }
            registered.queue.release_all();
            self.tell_fallen(identity, registered);
            if clean {
                registered.subscriptions.clear();
            }
            registered.live = Some(Live {
                session,
                mailbox: sender,
                taken_over: taken_over.clone(),
            });
            self.tell_connection(identity, true);
            !registered.subscriptions.is_empty()
        };
        self.changed_presence();
        Some(DeviceSession {
            hub: Arc::clone(self),
            identity: identity.clone(),
            session,
            mailbox,
            taken_over,
            resumed,
        })
    }
}

impl DeviceSession {
    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn with<T>(&self, f: impl FnOnce(&mut Registered) -> T) -> Option<T> {
        let mut identities = self.hub.identities();
        let registered = identities.get_mut(&self.identity)?;
        registered.holds(self.session).then(|| f(registered))
    }

    /// Notes a subscription.
    pub fn subscribe(&self, subscription: Subscription) {
        self.with(|registered| {
            registered
                .subscriptions
                .retain(|s| !s.same_kind(&subscription));
            registered.subscriptions.push(subscription);
        });
        self.hub.changed_presence();
    }

    /// Forgets a subscription.
    pub fn unsubscribe(&self, subscription: &Subscription) {
        self.with(|registered| {
            registered
                .subscriptions
                .retain(|s| !s.same_kind(subscription));
        });
        self.hub.changed_presence();
    }

    /// Whether the device has subscribed to it, now or in an earlier connection that lives on.
    #[must_use]
    pub fn listens(&self, subscription: &Subscription) -> bool {
        self.with(|registered| {
            registered
                .subscriptions
                .iter()
                .any(|s| s.same_kind(subscription))
        })
        .unwrap_or(false)
    }

    /// The next cloud-to-device message, if the device listens and one waits; and whether the device
    /// will acknowledge it.
    #[must_use]
    pub fn next_c2d(&self) -> Option<(LockToken, C2dMessage, bool)> {
        self.with(|registered| {
            let acknowledged = registered.subscriptions.iter().find_map(|s| match s {
                Subscription::C2d { acknowledged } => Some(*acknowledged),
                _ => None,
            })?;
            let locked = registered.queue.lock_next(self.session, now_ms());
            self.hub.tell_fallen(&self.identity, registered);
            let (token, message) = locked?;
            Some((token, message, acknowledged))
        })
        .flatten()
    }

    /// The device has the message: takes it out of the queue and notes the receipt.
    pub fn complete_c2d(&self, token: LockToken) {
        let message = self.with(|registered| {
            let message = registered.queue.complete(self.session, token)?;
            self.hub
                .tell_fate(&self.identity, registered, &message, Fate::Success);
            Some(message)
        });
        if let Some(message) = message.flatten() {
            let what = Received::C2d {
                message_id: message.message_id,
                correlation_id: message.correlation_id,
                body: String::from_utf8_lossy(&message.body).into_owned(),
                properties: message.properties,
            };
            self.hub.receipts.add(now_ms(), &self.identity, what);
        }
    }

    /// The device has been handed something that needs no acknowledgement.
    pub fn note(&self, what: Received) {
        self.hub.receipts.add(now_ms(), &self.identity, what);
    }

    /// Counts a telemetry message.
    pub fn count_telemetry(&self) {
        self.with(|registered| registered.telemetry += 1);
    }

    /// The device's answer to a method. `false` if nobody waits for it.
    pub fn answer_method(&self, rid: u64, status: i32, payload: &Bytes) -> bool {
        self.hub.answer_method(&self.identity, rid, status, payload)
    }

    /// The twin as the device sees it.
    #[must_use]
    pub fn twin(&self) -> Option<Value> {
        self.with(|registered| registered.twin.for_device())
    }

    /// Merges reported properties; gives the new version.
    ///
    /// # Errors
    /// [`BadPatch`].
    pub fn report(&self, patch: &Value) -> Result<Option<u64>, BadPatch> {
        self.with(|registered| {
            let version = registered.twin.reported.patch(patch)?;
            registered.twin.revision += 1;
            let mut told = patch.clone();
            told["$version"] = version.into();
            let body = json!({ "properties": { "reported": told } });
            self.hub
                .tell_twin(&self.identity, registered.twin.revision, body);
            Ok(version)
        })
        .transpose()
    }
}

impl Drop for DeviceSession {
    fn drop(&mut self) {
        self.with(|registered| {
            registered.live = None;
            registered.queue.release_all();
            self.hub.tell_fallen(&self.identity, registered);
            self.hub.tell_connection(&self.identity, false);
        });
        self.hub.forget_methods(&self.identity, self.session);
        self.hub.changed_presence();
    }
}
