//! What came of a command → response.

use alwayson::{InfoTable, Response, Status, Value};
use iothub::{Class, HubError, MethodAnswer, Taken};
use serde_json::Value as Json;

use super::{
    command::Refusal,
    operation::{Done, Failure},
};

/// Statuses of a direct method from here on are the device's errors, as in HTTP.
const DEVICE_ERROR: i32 = 400;
/// Longest answer of a device that an error shows.
const SHOWN: usize = 500;

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

    fn failed(status: Status, reason: impl Into<String>, label: &'static str) -> Self {
        Self {
            response: Response::error(status, reason),
            label,
        }
    }
}

impl From<Result<Done, Failure>> for Outcome {
    fn from(result: Result<Done, Failure>) -> Self {
        match result {
            Ok(done) => done.into(),
            Err(failure) => failure.into(),
        }
    }
}

impl From<Done> for Outcome {
    fn from(done: Done) -> Self {
        match done {
            Done::Nothing => Self::done(Response::ok()),
            Done::Text(text) => Self::done(Response::result(Value::string(text))),
            Done::Property { name, value } => {
                Self::done(Response::with(InfoTable::one_row([(name, value)])))
            }
            Done::Table(table) => Self::done(Response::with(table)),
            Done::Method(answer) => answer.into(),
        }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Hub(error) => error.into(),
            Failure::Refused(refusal) => refusal.into(),
            Failure::Partly { done, all, of } => {
                let Self { response, label } = Self::from(*of);
                let why = response.error_text().unwrap_or_default();
                let reason = format!("{why} (the first {done} of {all} properties were written)");
                Self::failed(response.status, reason, label)
            }
        }
    }
}

impl From<Refusal> for Outcome {
    fn from(Refusal { status, reason }: Refusal) -> Self {
        Self::failed(status, reason, "refused")
    }
}

impl From<MethodAnswer> for Outcome {
    fn from(MethodAnswer { status, payload }: MethodAnswer) -> Self {
        if status < DEVICE_ERROR {
            return Self::done(Response::result(value(&payload)));
        }
        let said: String = payload.to_string().chars().take(SHOWN).collect();
        let reason = format!("the device answered with status {status}: {said}");
        Self::failed(Status::INTERNAL_ERROR, reason, "device_error")
    }
}

impl From<HubError> for Outcome {
    fn from(error: HubError) -> Self {
        let (status, label) = match (&error, error.class()) {
            (HubError::NotOnline { .. }, _) => (Status::SERVICE_UNAVAILABLE, "offline"),
            (HubError::Changed { .. }, _) => (Status::PRECONDITION_FAILED, "changed"),
            (HubError::AlreadyExists { .. }, _) => (Status::CONFLICT, "refused"),
            (HubError::TooLarge { .. }, _) => (Status::ENTITY_TOO_LARGE, "refused"),
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
        Self::failed(status, error.to_string(), label)
    }
}

/// JSON that a device gave as a value, by its form. The platform turns it into the type that its service or
/// property declares.
#[must_use]
pub fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nothing,
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => number.as_f64().map_or(Value::Nothing, Value::Number),
        Json::String(text) => Value::string(text.as_str()),
        Json::Array(_) | Json::Object(_) => Value::json(json.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wrote_several_is_told_how_many_arrived() {
        let full = Failure::Hub(HubError::QueueFull { id: "pump".into() });
        let outcome = Outcome::from(Failure::Partly {
            done: 1,
            all: 3,
            of: Box::new(full),
        });
        assert_eq!(outcome.response.status, Status::SERVICE_UNAVAILABLE);
        let reason = outcome.response.error_text().unwrap();
        assert!(
            reason.contains("queue for device \"pump\" is full"),
            "{reason}"
        );
        assert!(
            reason.ends_with("(the first 1 of 3 properties were written)"),
            "{reason}"
        );
    }
}
