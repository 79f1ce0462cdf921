//! How many requests one device may have under way, so that a silent one leaves room for the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alwayson::Status;

use super::command::Refusal;

/// A device that answers does so in a second or two; whoever has asked one so often waits for its answers.
/// A sixteenth of what the connector serves at once.
const EACH: usize = 32;

/// Requests under way, by device. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct Devices(Arc<Mutex<HashMap<String, usize>>>);

/// A request's place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    devices: Devices,
    device: String,
}

impl Devices {
    fn counts(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // Each change is one number.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`Refusal`] if the device has no more.
    pub fn enter(&self, device: &str) -> Result<Place, Refusal> {
        let mut counts = self.counts();
        let count = counts.entry(device.to_owned()).or_default();
        if *count >= EACH {
            return Err(Refusal {
                status: Status::SERVICE_UNAVAILABLE,
                reason: format!(
                    "{EACH} requests for device {device} are under way already; it answers too slowly"
                ),
            });
        }
        *count += 1;
        Ok(Place {
            devices: self.clone(),
            device: device.to_owned(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.devices.counts();
        if let Some(count) = counts.get_mut(&self.device) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_so_many_places_and_others_are_not_concerned() {
        let devices = Devices::default();
        let places: Vec<Place> = (0..EACH).map(|_| devices.enter("slow").unwrap()).collect();
        let refusal = devices.enter("slow").unwrap_err();
        assert_eq!(refusal.status, Status::SERVICE_UNAVAILABLE);
        assert!(devices.enter("other").is_ok());
        drop(places);
        assert!(devices.enter("slow").is_ok());
        assert!(
            devices.counts().is_empty(),
            "nothing is kept of an idle device"
        );
    }
}
