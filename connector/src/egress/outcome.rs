//! Outcome of a hub operation → response.

use alwayson::{Response, Status};
use iothub::{Class, HubError, MethodAnswer, Taken};

use super::command::{Refusal, result};

/// Statuses of a direct method from here on are the device's errors, as in HTTP.
const DEVICE_ERROR: i32 = 400;

/// What became of a request: its response, and the label it is counted under.
pub struct Outcome {
    /// What the platform gets.
    pub response: Response,
    /// Label of the metric: a closed set.
    pub label: &'static str,
}

impl Outcome {
    /// It is done.
    #[must_use]
    pub fn done(response: Response) -> Self {
        Self {
            response,
            label: "done",
        }
    }
}

impl From<Refusal> for Outcome {
    fn from(Refusal { status, reason }: Refusal) -> Self {
        Self {
            response: Response::error(status, reason),
            label: "refused",
        }
    }
}

impl From<MethodAnswer> for Outcome {
    fn from(MethodAnswer { status, payload }: MethodAnswer) -> Self {
        if status < DEVICE_ERROR {
            return Self::done(Response::result(result(&payload)));
        }
        let reason = format!("the device answered with status {status}: {payload}");
        Self {
            response: Response::error(Status::INTERNAL_ERROR, reason),
            label: "device_error",
        }
    }
}

impl From<HubError> for Outcome {
    fn from(error: HubError) -> Self {
        let (status, label) = match (&error, error.class()) {
            (HubError::NotOnline { .. }, _) => (Status::SERVICE_UNAVAILABLE, "offline"),
            (_, Class::NotFound) => (Status::NOT_FOUND, "not_found"),
            (_, Class::Denied) => (Status::FORBIDDEN, "denied"),
            (_, Class::User) => (Status::BAD_REQUEST, "refused"),
            (_, Class::Throttled) => (Status::SERVICE_UNAVAILABLE, "throttled"),
            (_, Class::Bug) => (Status::INTERNAL_ERROR, "failed"),
            (_, Class::Transient) if error.taken() == Taken::Unknown => {
                (Status::GATEWAY_TIMEOUT, "unknown")
            }
            (_, Class::Transient) => (Status::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Self {
            response: Response::error(status, error.to_string()),
            label,
        }
    }
}
