//! An answer of the hub's REST face → result. Pure.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::MethodAnswer;
use crate::{
    HubError,
    refusal::{Subject, code_in, code_named, refused, refused_by_status, words},
};

/// An HTTP answer, as far as it matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    /// HTTP status.
    pub(super) status: u16,
    /// Header `iothub-errorcode`: the name of the error code.
    pub(super) error_code: Option<&'a str>,
    /// Header `Retry-After`.
    pub(super) retry_after: Option<&'a str>,
    /// Header `x-ms-continuation`.
    pub(super) continuation: Option<&'a str>,
    /// The body.
    pub(super) body: &'a [u8],
}

#[derive(Deserialize)]
struct Invoked {
    status: i32,
    #[serde(default)]
    payload: Value,
}

/// What came of a direct method.
pub(super) fn invoked(answer: &Answer<'_>, subject: Subject<'_>) -> Result<MethodAnswer, HubError> {
    let Invoked { status, payload } = typed(answer, subject)?;
    Ok(MethodAnswer { status, payload })
}

/// A document of the hub's own.
pub(super) fn document(answer: &Answer<'_>, subject: Subject<'_>) -> Result<Value, HubError> {
    match typed(answer, subject)? {
        document @ Value::Object(_) => Ok(document),
        _ => Err(HubError::Unexpected {
            what: subject.what.to_owned(),
            answer: "it is no JSON object".into(),
        }),
    }
}

/// A document of which a part is known.
pub(super) fn typed<T: DeserializeOwned>(
    answer: &Answer<'_>,
    subject: Subject<'_>,
) -> Result<T, HubError> {
    done(answer, subject)?;
    serde_json::from_slice(answer.body).map_err(|error| HubError::Unexpected {
        what: subject.what.to_owned(),
        answer: format!("it cannot be read: {error}"),
    })
}

/// That it is done says it all.
pub(super) fn done(answer: &Answer<'_>, subject: Subject<'_>) -> Result<(), HubError> {
    match answer.status {
        200..=299 => Ok(()),
        _ => Err(refusal(answer, subject)),
    }
}

/// Why the hub refused. The code in the body says most, then the header, then the status.
fn refusal(answer: &Answer<'_>, subject: Subject<'_>) -> HubError {
    let body = String::from_utf8_lossy(answer.body);
    let (code, text) = body_of(&body);
    let code = code.or_else(|| {
        let named = answer.error_code?;
        named.trim().parse().ok().or_else(|| code_named(named))
    });
    let retry_after = answer.retry_after.and_then(seconds);
    match code {
        Some(code) => refused(code, subject, &text, retry_after),
        None => refused_by_status(answer.status, subject, &text, retry_after),
    }
}

/// Code and words of an error's body. The hub writes `{"Message":"ErrorCode:NAME;…",
/// "ExceptionMessage":"…"}`, `{"errorCode":404103,"message":"…"}`, and the second as text inside the
/// first.
fn body_of(body: &str) -> (Option<u32>, String) {
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(body) else {
        return (code_in(body), words(body));
    };
    let field = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    let own = field("errorCode").and_then(|code| match code {
        Value::Number(number) => number.as_u64().and_then(|code| u32::try_from(code).ok()),
        Value::String(text) => text.parse().ok().or_else(|| code_named(text)),
        _ => None,
    });
    let message = field("Message").and_then(Value::as_str).unwrap_or_default();
    let exception = field("ExceptionMessage")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if message.trim_start().starts_with('{') {
        let (inner, text) = body_of(message);
        return (own.or(inner), text);
    }
    let text = if message.is_empty() {
        exception
    } else {
        message
    };
    let code = own
        .or_else(|| code_in(message))
        .or_else(|| code_in(exception));
    (code, words(text))
}

/// `Retry-After` in seconds. As a date it is not used: it would compare the hub's clock with ours.
fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SUBJECT: Subject<'_> = Subject {
        what: "the direct method",
        id: "pump-1",
        right: "ServiceConnect",
    };

    fn answer(status: u16, body: &str) -> Result<MethodAnswer, HubError> {
        with_headers(status, None, None, body)
    }

    fn with_headers(
        status: u16,
        error_code: Option<&str>,
        retry_after: Option<&str>,
        body: &str,
    ) -> Result<MethodAnswer, HubError> {
        let answer = Answer {
            status,
            error_code,
            retry_after,
            continuation: None,
            body: body.as_bytes(),
        };
        invoked(&answer, SUBJECT)
    }

    fn id() -> String {
        "pump-1".into()
    }

    #[test]
    fn a_method_answer_is_the_devices_own() {
        assert_eq!(
            answer(200, r#"{"status":404,"payload":{"a":[1]}}"#).unwrap(),
            MethodAnswer {
                status: 404,
                payload: json!({"a": [1]})
            }
        );
        assert_eq!(
            answer(200, r#"{"status":200}"#).unwrap().payload,
            Value::Null
        );
        for body in ["", "{}", r#"{"status":"200"}"#, "<html>"] {
            assert!(
                matches!(answer(200, body), Err(HubError::Unexpected { .. })),
                "{body}"
            );
        }
    }

    #[test]
    fn every_form_of_a_refusal_is_understood() {
        for (status, body, error) in [
            (
                404,
                r#"{"Message":"ErrorCode:DeviceNotFound;Device pump-1 not registered","ExceptionMessage":"Tracking ID:x"}"#,
                HubError::DeviceNotFound { id: id() },
            ),
            (
                404,
                r#"{"Message":"{\"errorCode\":404103,\"trackingId\":\"x\",\"message\":\"Timed out waiting for device to connect.\",\"timestampUtc\":\"t\"}","ExceptionMessage":""}"#,
                HubError::NotOnline { id: id() },
            ),
            (
                404,
                r#"{"errorCode":404103,"message":"Timed out"}"#,
                HubError::NotOnline { id: id() },
            ),
            (
                504,
                r#"{"Message":"late","ExceptionMessage":"ErrorCode:GatewayTimeout"}"#,
                HubError::MethodTimedOut { id: id() },
            ),
            (
                401,
                r#"{"Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized","ExceptionMessage":"t"}"#,
                HubError::Denied {
                    what: "the direct method needs the right ServiceConnect: \
                           ErrorCode:IotHubUnauthorizedAccess;Unauthorized"
                        .into(),
                },
            ),
            (
                403,
                r#"{"errorCode":"IotHubQuotaExceeded"}"#,
                HubError::QuotaExceeded,
            ),
            (
                502,
                "<html>Bad gateway</html>",
                HubError::Unavailable {
                    what: "the direct method".into(),
                    answer: "<html>Bad gateway</html>".into(),
                },
            ),
            (
                400,
                r#"{"Message":"ErrorCode:ArgumentInvalid;bad","ExceptionMessage":""}"#,
                HubError::Invalid {
                    what: "the direct method".into(),
                    answer: "ErrorCode:ArgumentInvalid;bad".into(),
                },
            ),
        ] {
            assert_eq!(answer(status, body), Err(error), "{body}");
        }
    }

    #[test]
    fn headers_say_what_the_body_does_not() {
        assert_eq!(
            with_headers(404, Some("DeviceNotOnline"), None, ""),
            Err(HubError::NotOnline { id: id() })
        );
        assert_eq!(
            with_headers(404, Some("404001"), None, "{}"),
            Err(HubError::DeviceNotFound { id: id() })
        );
        for (after, expected) in [
            ("7", Some(Duration::from_secs(7))),
            ("Wed, 25 Nov 2026 09:00:00 GMT", None),
        ] {
            assert_eq!(
                with_headers(
                    429,
                    None,
                    Some(after),
                    r#"{"Message":"ErrorCode:ThrottlingException;x"}"#
                ),
                Err(HubError::Throttled {
                    retry_after: expected
                })
            );
        }
    }
}
