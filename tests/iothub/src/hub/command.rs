//! Commands to devices: cloud-to-device messages and direct methods.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    c2d::{C2dMessage, MAX_BODY},
    identity::Identity,
    operation::Operation,
    refusal::Refusal,
};

use super::{Hub, Subscription, ToDevice, now_ms, registry::not_found};

/// Largest payload of a method, each way. Source: Microsoft Learn, "Understand and invoke direct
/// methods".
pub const MAX_METHOD_PAYLOAD: usize = 128 * 1024;

/// A call of a direct method.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodRequest {
    /// Name of the method.
    pub name: String,
    /// What it is called with.
    pub payload: Value,
    /// How long to wait for the device's answer.
    pub response_timeout: Duration,
    /// How long to wait for a device that is not connected.
    pub connect_timeout: Duration,
}

/// What the device answered.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodAnswer {
    /// The device's own status.
    pub status: i32,
    /// What it returned.
    pub payload: Value,
}

/// A method that a device has been handed and has not answered.
#[derive(Debug)]
pub(super) struct Pending {
    identity: Identity,
    session: u64,
    answer: oneshot::Sender<MethodAnswer>,
}

impl Hub {
    /// Puts a message into a device's queue.
    ///
    /// # Errors
    /// [`Refusal::DeviceNotFound`], [`Refusal::QueueFull`], [`Refusal::TooLarge`],
    /// [`Refusal::Throttled`].
    pub fn send_c2d(
        self: &Arc<Self>,
        identity: &Identity,
        message: C2dMessage,
    ) -> Result<(), Refusal> {
        if self.faults.throttles_c2d() {
            self.meter.refused(Operation::C2d);
            return Err(Refusal::Throttled { retry_after: None });
        }
        self.admit(Operation::C2d, 1.0)?;
        if message.body.len() > MAX_BODY {
            return Err(Refusal::TooLarge(format!(
                "a cloud-to-device message has at most {MAX_BODY} bytes"
            )));
        }
        let mut identities = self.identities();
        let registered = identities
            .get_mut(identity)
            .ok_or_else(|| not_found(identity))?;
        self.watch_expiry(identity, &message);
        let pushed = registered.queue.push(message, now_ms());
        self.tell_fallen(identity, registered);
        pushed.map_err(|_| Refusal::QueueFull(identity.to_string()))?;
        registered.send_if(
            &Subscription::C2d { acknowledged: true },
            ToDevice::C2dWaiting,
        );
        Ok(())
    }

    /// Calls a direct method and waits for the device's answer.
    ///
    /// # Errors
    /// [`Refusal::DeviceNotFound`], [`Refusal::ModuleNotFound`], [`Refusal::DeviceNotOnline`] if it
    /// is not connected or does not listen for methods, [`Refusal::DeviceTimeout`] if it does not
    /// answer, [`Refusal::Throttled`], [`Refusal::TooLarge`].
    pub async fn invoke(
        &self,
        identity: &Identity,
        request: MethodRequest,
    ) -> Result<MethodAnswer, Refusal> {
        if let Some(retry_after) = self.faults.throttles_methods() {
            return Err(Refusal::Throttled { retry_after });
        }
        if request.payload.to_string().len() > MAX_METHOD_PAYLOAD {
            return Err(Refusal::TooLarge(format!(
                "a method's payload has at most {MAX_METHOD_PAYLOAD} bytes"
            )));
        }
        let deadline = Instant::now() + request.connect_timeout;
        let mut presence = self.presence.subscribe();
        let (rid, answer) = loop {
            presence.mark_unchanged();
            if let Some(handed) = self.hand_over(identity, &request)? {
                break handed;
            }
            if !matches!(timeout_at(deadline, presence.changed()).await, Ok(Ok(()))) {
                return Err(Refusal::DeviceNotOnline(
                    "Timed out waiting for device to connect.".into(),
                ));
            }
        };
        let answered = timeout(request.response_timeout, answer).await;
        self.pending().remove(&rid);
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Refusal::DeviceNotOnline("Device unavailable".into())),
            Err(_) => Err(Refusal::DeviceTimeout),
        }
    }

    /// Hands the call to the connected device; `None` if there is none that listens.
    #[allow(clippy::type_complexity)]
    fn hand_over(
        &self,
        identity: &Identity,
        request: &MethodRequest,
    ) -> Result<Option<(u64, oneshot::Receiver<MethodAnswer>)>, Refusal> {
        let rid = self.number();
        let identities = self.identities();
        let registered = identities
            .get(identity)
            .ok_or_else(|| not_found(identity))?;
        let Some(session) = registered.live.as_ref().map(|live| live.session) else {
            return Ok(None);
        };
        let (sender, answer) = oneshot::channel();
        // Noted before it is sent: the answer may be quicker than we are.
        self.pending().insert(
            rid,
            Pending {
                identity: identity.clone(),
                session,
                answer: sender,
            },
        );
        let call = ToDevice::Method {
            rid,
            name: request.name.clone(),
            payload: request.payload.clone(),
        };
        if registered.send_if(&Subscription::Methods, call) {
            Ok(Some((rid, answer)))
        } else {
            self.pending().remove(&rid);
            Ok(None)
        }
    }

    pub(super) fn answer_method(
        &self,
        identity: &Identity,
        rid: u64,
        status: i32,
        payload: &Bytes,
    ) -> bool {
        if self.faults.loses_answers() {
            return true;
        }
        let mut pending = self.pending();
        if pending.get(&rid).is_none_or(|p| p.identity != *identity) {
            return false;
        }
        let payload = if payload.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(payload)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(payload).into_owned()))
        };
        match pending.remove(&rid) {
            // The caller may have gone in the meantime; the device has still answered.
            Some(waiting) => waiting
                .answer
                .send(MethodAnswer { status, payload })
                .is_ok(),
            None => false,
        }
    }

    /// The connection is gone: nobody will answer.
    pub(super) fn forget_methods(&self, identity: &Identity, session: u64) {
        self.pending()
            .retain(|_, p| !(p.session == session && p.identity == *identity));
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
