//! A change of a twin → the twin properties of its Thing.

use std::time::Duration;

use iothub::{Class, HubError};
use tokio::time::{Instant, sleep, timeout};

use super::{Definitions, Delivery, Detail, MAX_PAUSE, Mapped, PAUSE, Reason, Shadow, map};
use crate::ingress::{
    notice::TwinChange,
    twin::{Part, Step, Twin, step},
};

/// How long a twin is tried to be read. Then the change is passed, so that telemetry does not wait for
/// the hub's REST face; the next change reads the whole twin.
const TWIN: Duration = Duration::from_secs(8);
/// For so long after that no twin of the Thing is tried: a hundred changes that wait must not take a
/// hundred times [`TWIN`].
const TWIN_PAUSE: Duration = Duration::from_secs(10);
impl Delivery {
    /// What a change makes of the properties; reads the twin where the change alone does not tell.
    pub(super) async fn twin(
        &self,
        sequence: i64,
        one: &TwinChange,
        definitions: &Definitions,
        shadow: &mut Shadow,
    ) -> Mapped {
        if !map::takes_twin(one, definitions) {
            return Mapped::default();
        }
        let next = step(shadow.twin(&one.module), &one.change);
        let (twin, parts) = match (next, shadow.take_twin(&one.module)) {
            (Step::Apply, Some(mut twin)) => {
                let parts = twin.apply(&one.change);
                (twin, parts)
            }
            (Step::Known, Some(mut twin)) => {
                twin.see(&one.change);
                (twin, Vec::new())
            }
            _ => match self.read_twin(sequence, one, shadow).await {
                Some(twin) => (twin, Part::ALL.to_vec()),
                None => return Mapped::default(),
            },
        };
        let mapped = map::twin(one, &twin, &parts, definitions);
        shadow.put_twin(&one.module, twin);
        mapped
    }

    /// Reads a twin that is at least as new as the change; none if it is gone, or the change is passed.
    async fn read_twin(
        &self,
        sequence: i64,
        one: &TwinChange,
        shadow: &mut Shadow,
    ) -> Option<Twin> {
        let mut why = "it could not be read a moment ago".to_owned();
        if !shadow.is_unreadable(Instant::now()) {
            let read = self.try_twin(one, &mut why);
            if let Ok(Some(read)) = timeout(TWIN, read).await {
                return read;
            }
            shadow.unreadable(Instant::now() + TWIN_PAUSE);
        }
        let message = format!(
            "a change of the twin of {} is not written, because the twin cannot be read: {why}",
            self.thing
        );
        self.pass([sequence], Reason::Internal, message, Detail::None);
        None
    }

    /// Tries until there is an answer: the twin, or that it is gone. None if trying on is of no use.
    async fn try_twin(&self, one: &TwinChange, why: &mut String) -> Option<Option<Twin>> {
        let mut pause = PAUSE;
        "the hub has not answered in time".clone_into(why);
        loop {
            let read = self.ingress.twins.twin(&self.thing, one.module.as_deref());
            match read.await {
                Ok(document) => match Twin::read(&document, &one.change) {
                    Some(twin) if twin.is_at(&one.change) => return Some(Some(twin)),
                    _ => "the hub still gives an older one".clone_into(why),
                },
                // Deleted in the meantime: nobody misses its twin.
                Err(HubError::DeviceNotFound { .. }) => return Some(None),
                Err(error) => {
                    *why = error.to_string();
                    match error {
                        HubError::Throttled {
                            retry_after: Some(wait),
                        } => pause = pause.max(wait),
                        error if !matches!(error.class(), Class::Transient | Class::Throttled) => {
                            return None;
                        }
                        _ => {}
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}
