//! How a refusal looks in HTTP.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{identity::BadIdentity, refusal::Refusal};

const ERROR_CODE: HeaderName = HeaderName::from_static("iothub-errorcode");

/// A refusal on its way to the caller.
#[derive(Debug)]
pub(super) struct Failure {
    refusal: Refusal,
    /// For a call of a method: how long it has waited for the device to connect.
    waited: Option<Duration>,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            waited: None,
        }
    }
}

impl From<BadIdentity> for Failure {
    fn from(bad: BadIdentity) -> Self {
        Refusal::BadRequest(bad.to_string()).into()
    }
}

impl Failure {
    /// The failure of a direct method, after so long a wait for the device to connect.
    pub(super) fn of_call(refusal: Refusal, waited: Duration) -> Self {
        Self {
            refusal,
            waited: Some(waited),
        }
    }

    /// The two forms that IoT Hub writes. What comes from the part of it that talks to devices is
    /// JSON in the text (azure-iot-sdk-csharp#122, azure-iot-sdk-java#640), all else
    /// `ErrorCode:{name};{text}` (azure-iot-sdk-csharp#37).
    fn body(&self, now: Timestamp) -> Value {
        let tracking = tracking_id(now);
        let info = match (&self.refusal, self.waited) {
            (Refusal::DeviceNotOnline(_), Some(waited)) => json!({"timeout": clock(waited)}),
            (Refusal::DeviceTimeout, Some(_)) => json!({}),
            (refusal, _) => {
                return json!({
                    "Message": format!("ErrorCode:{};{refusal}", refusal.name()),
                    "ExceptionMessage": format!("Tracking ID:{tracking}"),
                });
            }
        };
        let message = json!({
            "errorCode": self.refusal.code(),
            "trackingId": tracking,
            "message": self.refusal.to_string(),
            "info": info,
            "timestampUtc": now.to_string(),
        });
        json!({"Message": message.to_string(), "ExceptionMessage": ""})
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.refusal.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut headers = HeaderMap::new();
        headers.insert(ERROR_CODE, HeaderValue::from_static(self.refusal.name()));
        if let Refusal::Throttled {
            retry_after: Some(seconds),
        } = self.refusal
        {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        (status, headers, Json(self.body(Timestamp::now()))).into_response()
    }
}

/// What this stand-in does not have; a test that gets here should say so clearly.
pub(super) async fn no_such_operation() -> (StatusCode, Json<Value>) {
    let text = "ErrorCode:NotFound;the stand-in has no such operation";
    let body = json!({"Message": text, "ExceptionMessage": ""});
    (StatusCode::NOT_FOUND, Json(body))
}

fn tracking_id(now: Timestamp) -> String {
    let id: u128 = rand::random();
    format!(
        "{id:032x}-G:0-TimeStamp:{}",
        now.strftime("%m/%d/%Y %H:%M:%S")
    )
}

/// `00:00:30`, as .NET writes a time span.
fn clock(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(failure: &Failure) -> (Value, Value) {
        let body = failure.body(Timestamp::UNIX_EPOCH);
        let message = body["Message"].as_str().unwrap();
        (
            serde_json::from_str(message).unwrap(),
            body["ExceptionMessage"].clone(),
        )
    }

    #[test]
    fn failures_of_calls_are_json_in_the_text() {
        let waited = Duration::from_secs(60);
        let (message, exception) = parts(&Failure::of_call(Refusal::DeviceTimeout, waited));
        assert_eq!(exception, "");
        assert_eq!(message["errorCode"], 504_101);
        assert_eq!(
            message["message"],
            "Timed out waiting for the response from device."
        );
        assert_eq!(message["timestampUtc"], "1970-01-01T00:00:00Z");
        let offline = Refusal::DeviceNotOnline("Timed out waiting for device to connect.".into());
        let (message, _) = parts(&Failure::of_call(offline, waited));
        assert_eq!(message["errorCode"], 404_103);
        assert_eq!(message["info"], json!({"timeout": "00:01:00"}));
    }

    #[test]
    fn time_spans_are_clocks() {
        assert_eq!(clock(Duration::from_secs(0)), "00:00:00");
        assert_eq!(clock(Duration::from_secs(300)), "00:05:00");
        assert_eq!(clock(Duration::from_secs(3725)), "01:02:05");
    }
}
