//! The identity registry.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    c2d::C2dQueue, identity::Identity, log::Origin, refusal::Refusal, sas::SharedKey, twin::Twin,
};

use super::{Hub, Subscription, ToDevice, now_ms};

/// The two keys of an identity; either will do.
#[derive(Debug, Clone)]
pub struct Keys {
    /// First key.
    pub primary: SharedKey,
    /// Second key.
    pub secondary: SharedKey,
}

impl Keys {
    /// Two new keys.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            primary: SharedKey::generate(),
            secondary: SharedKey::generate(),
        }
    }

    /// Both.
    pub(super) fn both(&self) -> [&SharedKey; 2] {
        [&self.primary, &self.secondary]
    }
}

/// Condition of a change: `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Etag {
    /// No condition given.
    Absent,
    /// `*`.
    Any,
    /// This version only.
    Exactly(String),
}

/// What a registry change sets.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// New keys; generated for a new identity, kept for an old one, if absent.
    pub keys: Option<Keys>,
    /// Whether it may connect.
    pub enabled: Option<bool>,
}

/// A registered identity and all that the hub keeps for it.
#[derive(Debug)]
pub struct Registered {
    pub(super) keys: Keys,
    pub(super) enabled: bool,
    generation: String,
    etag: u64,
    pub(super) queue: C2dQueue,
    pub(super) twin: Twin,
    pub(super) live: Option<Live>,
    /// What it has subscribed to; outlives the connection unless that asked for a clean session.
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) telemetry: u64,
}

/// The connection of an identity.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) session: u64,
    pub(super) mailbox: mpsc::Sender<ToDevice>,
    pub(super) taken_over: CancellationToken,
}

/// An identity as the registry shows it.
#[derive(Debug, Clone)]
pub struct DeviceView {
    /// Who.
    pub identity: Identity,
    /// Its keys.
    pub keys: Keys,
    /// Whether it may connect.
    pub enabled: bool,
    /// Version, without quotes.
    pub etag: String,
    /// Changes when an id is deleted and made again.
    pub generation: String,
    /// Whether it is connected.
    pub connected: bool,
    /// How many cloud-to-device messages wait.
    pub c2d_depth: usize,
    /// How many telemetry messages it has sent.
    pub telemetry: u64,
}

impl Registered {
    fn new(keys: Keys, enabled: bool, number: u64) -> Self {
        Self {
            keys,
            enabled,
            generation: format!("{}{number:04}", now_ms()),
            etag: number,
            queue: C2dQueue::default(),
            twin: Twin::default(),
            live: None,
            subscriptions: Vec::new(),
            telemetry: 0,
        }
    }

    pub(super) fn generation(&self) -> &str {
        &self.generation
    }

    fn etag(&self) -> String {
        format!("{:012x}", self.etag)
    }

    pub(super) fn view(&self, identity: &Identity) -> DeviceView {
        DeviceView {
            identity: identity.clone(),
            keys: self.keys.clone(),
            enabled: self.enabled,
            etag: self.etag(),
            generation: self.generation.clone(),
            connected: self.live.is_some(),
            c2d_depth: self.queue.len(),
            telemetry: self.telemetry,
        }
    }
}

pub(super) fn not_found(identity: &Identity) -> Refusal {
    match identity.module_id() {
        None => Refusal::DeviceNotFound(identity.to_string()),
        Some(_) => Refusal::ModuleNotFound(identity.to_string()),
    }
}

pub(super) fn check_etag(existing: &str, condition: &Etag) -> Result<(), Refusal> {
    match condition {
        Etag::Absent | Etag::Any => Ok(()),
        Etag::Exactly(given) if given == existing => Ok(()),
        Etag::Exactly(given) => Err(Refusal::Precondition {
            existing: existing.to_owned(),
            given: given.clone(),
        }),
    }
}

impl Hub {
    /// Makes an identity, or changes one if a condition was given.
    ///
    /// # Errors
    /// [`Refusal::AlreadyExists`] without a condition, [`Refusal::Precondition`],
    /// [`Refusal::DeviceNotFound`] for a module of no device.
    pub fn put(
        &self,
        identity: &Identity,
        change: Change,
        condition: &Etag,
    ) -> Result<DeviceView, Refusal> {
        let number = self.number();
        let mut identities = self.identities();
        if identity.module_id().is_some() {
            let device = Identity::device(identity.device_id())
                .map_err(|bad| Refusal::BadRequest(bad.to_string()))?;
            if !identities.contains_key(&device) {
                return Err(not_found(&device));
            }
        }
        if let Some(registered) = identities.get_mut(identity) {
            if *condition == Etag::Absent {
                return Err(Refusal::AlreadyExists(identity.to_string()));
            }
            check_etag(&registered.etag(), condition)?;
            if let Some(keys) = change.keys {
                registered.keys = keys;
            }
            registered.enabled = change.enabled.unwrap_or(registered.enabled);
            registered.etag = number;
            if !registered.enabled
                && let Some(live) = &registered.live
            {
                live.taken_over.cancel();
            }
            return Ok(registered.view(identity));
        }
        if let Etag::Exactly(_) = condition {
            return Err(not_found(identity));
        }
        let keys = change.keys.unwrap_or_else(Keys::generate);
        let registered = Registered::new(keys, change.enabled.unwrap_or(true), number);
        let view = registered.view(identity);
        self.tell_lifecycle(identity, true, &registered);
        identities.insert(identity.clone(), registered);
        Ok(view)
    }

    /// Looks an identity up.
    ///
    /// # Errors
    /// [`Refusal::DeviceNotFound`], [`Refusal::ModuleNotFound`].
    pub fn get(&self, identity: &Identity) -> Result<DeviceView, Refusal> {
        let identities = self.identities();
        let registered = identities
            .get(identity)
            .ok_or_else(|| not_found(identity))?;
        Ok(registered.view(identity))
    }

    /// Removes an identity, a device with its modules, and closes its connections.
    ///
    /// # Errors
    /// [`Refusal::DeviceNotFound`], [`Refusal::ModuleNotFound`], [`Refusal::Precondition`].
    pub fn delete(&self, identity: &Identity, condition: &Etag) -> Result<(), Refusal> {
        let mut identities = self.identities();
        let registered = identities
            .get(identity)
            .ok_or_else(|| not_found(identity))?;
        check_etag(&registered.etag(), condition)?;
        identities.retain(|other, registered| {
            let goes = other == identity
                || (identity.module_id().is_none() && other.device_id() == identity.device_id());
            if goes && let Some(live) = &registered.live {
                live.taken_over.cancel();
            }
            if goes {
                self.tell_lifecycle(other, false, registered);
            }
            !goes
        });
        Ok(())
    }

    /// Up to `top` devices, by id; modules of `device` if one is named.
    #[must_use]
    pub fn list(&self, device: Option<&str>, top: usize) -> Vec<DeviceView> {
        self.identities()
            .iter()
            .filter(|(identity, _)| match device {
                None => identity.module_id().is_none(),
                Some(device) => identity.module_id().is_some() && identity.device_id() == device,
            })
            .take(top)
            .map(|(identity, registered)| registered.view(identity))
            .collect()
    }

    /// How many devices there are, and how many of them may connect.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let identities = self.identities();
        let devices = identities
            .iter()
            .filter(|(identity, _)| identity.module_id().is_none());
        devices.fold((0, 0), |(all, enabled), (_, registered)| {
            (all + 1, enabled + usize::from(registered.enabled))
        })
    }

    /// Where this identity's messages come from, for the annotations of its events.
    #[must_use]
    pub fn origin(&self, identity: &Identity, source: &str) -> Option<Arc<Origin>> {
        let identities = self.identities();
        let registered = identities.get(identity)?;
        let scope = if identity.module_id().is_some() {
            "module"
        } else {
            "device"
        };
        Some(Arc::new(Origin {
            device: identity.device_id().to_owned(),
            module: identity.module_id().map(str::to_owned),
            auth_method: json!({"scope": scope, "type": "sas", "issuer": "iothub", "acceptingIpFilterRule": null})
                .to_string(),
            generation: registered.generation.clone(),
            source: source.to_owned(),
        }))
    }

    /// Drops the cloud-to-device messages that wait for a device; gives how many.
    ///
    /// # Errors
    /// [`Refusal::DeviceNotFound`].
    pub fn purge(self: &Arc<Self>, identity: &Identity) -> Result<usize, Refusal> {
        let mut identities = self.identities();
        let registered = identities
            .get_mut(identity)
            .ok_or_else(|| not_found(identity))?;
        let purged = registered.queue.purge();
        self.tell_fallen(identity, registered);
        Ok(purged)
    }
}
