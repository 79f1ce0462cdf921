//! Direct methods.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    hub::{Hub, MethodAnswer, MethodRequest},
    refusal::Refusal,
};

use super::{
    error::Failure,
    request::{Body, Who},
};

/// What a name cannot have beside letters, digits and other printable ASCII. Source: Microsoft
/// Learn, "Understand and invoke direct methods".
const NOT_IN_NAMES: &str = "$()<>@,;:\\\"/[]?={} \t";

/// Limits and defaults in seconds; same source.
const RESPONSE: std::ops::RangeInclusive<u64> = 5..=300;
const RESPONSE_DEFAULT: u64 = 30;
const CONNECT: std::ops::RangeInclusive<u64> = 0..=300;
const CONNECT_DEFAULT: u64 = 0;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Call {
    method_name: String,
    #[serde(default)]
    payload: Value,
    response_timeout_in_seconds: Option<u64>,
    connect_timeout_in_seconds: Option<u64>,
}

impl TryFrom<Call> for MethodRequest {
    type Error = Refusal;

    fn try_from(call: Call) -> Result<Self, Refusal> {
        let allowed = |c: char| c.is_ascii_graphic() && !NOT_IN_NAMES.contains(c);
        if call.method_name.is_empty() || !call.method_name.chars().all(allowed) {
            return Err(Refusal::BadRequest(format!(
                "{:?} cannot name a method",
                call.method_name
            )));
        }
        let within = |name, given: Option<u64>, default, limits: std::ops::RangeInclusive<u64>| {
            let seconds = given.unwrap_or(default);
            if limits.contains(&seconds) {
                return Ok(Duration::from_secs(seconds));
            }
            let (low, high) = limits.into_inner();
            Err(Refusal::BadRequest(format!(
                "{name} is {seconds}, not {low} to {high}"
            )))
        };
        Ok(Self {
            name: call.method_name,
            payload: call.payload,
            response_timeout: within(
                "responseTimeoutInSeconds",
                call.response_timeout_in_seconds,
                RESPONSE_DEFAULT,
                RESPONSE,
            )?,
            connect_timeout: within(
                "connectTimeoutInSeconds",
                call.connect_timeout_in_seconds,
                CONNECT_DEFAULT,
                CONNECT,
            )?,
        })
    }
}

pub(super) async fn invoke(
    State(hub): State<Arc<Hub>>,
    Who(identity): Who,
    Body(call): Body<Call>,
) -> Result<Json<Value>, Failure> {
    let request = MethodRequest::try_from(call)?;
    let waited = request.connect_timeout;
    let MethodAnswer { status, payload } = hub
        .invoke(&identity, request)
        .await
        .map_err(|refusal| Failure::of_call(refusal, waited))?;
    Ok(Json(json!({"status": status, "payload": payload})))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<MethodRequest, Refusal> {
        serde_json::from_value::<Call>(body).unwrap().try_into()
    }

    #[test]
    fn what_is_not_given_has_defaults() {
        let request = read(json!({"methodName": "reboot"})).unwrap();
        assert_eq!(request.payload, Value::Null);
        assert_eq!(request.response_timeout, Duration::from_secs(30));
        assert_eq!(request.connect_timeout, Duration::ZERO);
    }

    #[test]
    fn limits_are_kept() {
        for (response, connect, good) in [
            (5, 0, true),
            (300, 300, true),
            (4, 0, false),
            (301, 0, false),
            (5, 301, false),
        ] {
            let read = read(json!({
                "methodName": "m", "responseTimeoutInSeconds": response,
                "connectTimeoutInSeconds": connect,
            }));
            assert_eq!(read.is_ok(), good, "{response} {connect}");
        }
        for name in ["", "a b", "a/b", "é", "$rid", "a?b"] {
            assert!(read(json!({"methodName": name})).is_err(), "{name}");
        }
        assert!(read(json!({"methodName": "Update-Firmware_2.0!"})).is_ok());
    }
}
