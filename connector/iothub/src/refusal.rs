//! The hub's own error codes → [`HubError`]. Pure.
//!
//! A refusal reaches us as an HTTP answer or as an AMQP error; both may carry the hub's code as a
//! number (404103) or as a name (`DeviceNotOnline`). Source: Microsoft Learn, "Understand and resolve
//! Azure IoT Hub errors"; `ErrorCode` of Microsoft's .NET service SDK.

use std::time::Duration;

use crate::HubError;

/// Longest text of the hub that is passed on.
const LONGEST: usize = 200;

/// What the hub was asked for, in the words of an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// What was sent: "the direct method".
    pub(crate) what: &'a str,
    /// The device, device and module, job, or query.
    pub(crate) id: &'a str,
    /// The right that the policy needs for it, as the hub calls it.
    pub(crate) right: &'static str,
}

/// The hub's words, fit to be shown: one line, not endless.
pub(crate) fn words(text: &str) -> String {
    let mut shown: String = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(LONGEST + 1)
        .collect();
    if shown.chars().count() > LONGEST {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// The number for a name of an error code.
pub(crate) fn code_named(name: &str) -> Option<u32> {
    const NAMES: &[(&str, u32)] = &[
        ("ArgumentInvalid", 400_004),
        ("ArgumentNull", 400_005),
        ("InvalidProtocolVersion", 400_001),
        ("IotHubSuspended", 400_020),
        ("IotHubUnauthorizedAccess", 401_003),
        ("IotHubUnauthorized", 401_002),
        ("IotHubNotFound", 404_002),
        ("IotHubQuotaExceeded", 403_002),
        ("JobQuotaExceeded", 403_003),
        ("DeviceMaximumQueueDepthExceeded", 403_004),
        ("DeviceMaximumActiveFileUploadLimitExceeded", 403_006),
        ("OperationNotAvailableInCurrentTier", 403_010),
        ("DeviceNotFound", 404_001),
        ("ModuleNotFound", 404_010),
        ("DeviceNotOnline", 404_103),
        ("DeviceConnectionClosedRemotely", 404_104),
        ("DeviceAlreadyExists", 409_001),
        ("ModuleAlreadyExistsOnDevice", 409_301),
        ("PreconditionFailed", 412_001),
        ("DeviceMessageLockLost", 412_002),
        ("MessageTooLarge", 413_001),
        ("TooManyDevices", 413_002),
        ("ThrottlingException", 429_001),
        ("ThrottlingBacklogLimitExceeded", 429_002),
        ("ThrottleBacklogLimitExceeded", 429_002),
        ("ThrottlingBacklogTimeout", 429_003),
        ("ThrottlingMaxActiveJobCountExceeded", 429_004),
        ("ServerError", 500_001),
        ("InternalServerError", 500_001),
        ("ServiceUnavailable", 503_001),
        ("ServerBusy", 503_001),
        ("GatewayTimeout", 504_101),
    ];
    NAMES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name.trim()))
        .map(|(_, code)| *code)
}

/// Looks for a code in a text such as `ErrorCode:DeviceNotOnline;Timed out`,
/// `{"errorCode":404103,"trackingId":…}` or `… errorCode: 404001 …`.
pub(crate) fn code_in(text: &str) -> Option<u32> {
    const MARK: &str = "errorcode";
    let folded = text.to_ascii_lowercase();
    let mut from = 0;
    while let Some(at) = folded.get(from..)?.find(MARK) {
        from += at + MARK.len();
        let rest = text.get(from..)?;
        let value = rest.trim_start_matches(['"', '\\', ':', '=', ' ']);
        let end = value
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(value.len());
        let value = value.get(..end)?;
        if let Some(code) = numbered(value).or_else(|| code_named(value)) {
            return Some(code);
        }
    }
    None
}

fn numbered(digits: &str) -> Option<u32> {
    digits
        .parse()
        .ok()
        .filter(|code| (400_000..600_000).contains(code))
}

/// What a code means. The first three digits are the HTTP status.
pub(crate) fn refused(
    code: u32,
    subject: Subject<'_>,
    text: &str,
    retry_after: Option<Duration>,
) -> HubError {
    let (what, id, answer) = (subject.what.to_owned(), subject.id.to_owned(), words(text));
    match code {
        403_002 => HubError::QuotaExceeded,
        // One job of the registry at a time; so many uploads of a device.
        403_003 | 403_006 => HubError::Throttled { retry_after },
        403_004 => HubError::QueueFull { id },
        403_010 => HubError::NotInTier { what },
        404_001 | 404_010 => HubError::DeviceNotFound { id },
        404_103 => HubError::NotOnline { id },
        // The device was connected when it got the method: it may have run it.
        404_104 => HubError::Unavailable { what, answer },
        413_002 => HubError::TooManyDevices,
        429_004 => HubError::TooManyJobs,
        504_101 => HubError::MethodTimedOut { id },
        _ => {
            let status = u16::try_from(code / 1000).unwrap_or(0);
            refused_by_status(status, subject, text, retry_after)
        }
    }
}

/// What an HTTP status means that comes without a code that is known by number, or with one that says no
/// more.
pub(crate) fn refused_by_status(
    status: u16,
    Subject { what, id, right }: Subject<'_>,
    text: &str,
    retry_after: Option<Duration>,
) -> HubError {
    let (what, id, answer) = (what.to_owned(), id.to_owned(), words(text));
    let named = |name: &str| answer.contains(name);
    let said = |what: String, answer: String| {
        if answer.is_empty() {
            what
        } else {
            format!("{what}: {answer}")
        }
    };
    match status {
        // Microsoft publishes no numbers of these two (azure-iot-sdk-node#464).
        400..=499 if named("OperationNotAllowedInCurrentState") => {
            HubError::NotInThisState { what, answer }
        }
        400..=499 if named("JobNotFound") => HubError::JobNotFound { id },
        400 => HubError::Invalid { what, answer },
        401 | 403 => HubError::Denied {
            what: said(format!("{what} needs the right {right}"), answer),
        },
        404 => HubError::NotFound {
            what: said(what, answer),
        },
        409 => HubError::AlreadyExists { id },
        412 => HubError::Changed { what: id },
        413 => HubError::TooLarge { what },
        429 => HubError::Throttled { retry_after },
        // 408: the hub gave up waiting for something; it does not say what.
        408 | 500..=599 => HubError::Unavailable { what, answer },
        402..=499 => HubError::Refused { what, answer },
        _ => HubError::Unexpected {
            what,
            answer: said(format!("status {status}"), answer),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject<'_> = Subject {
        what: "the direct method",
        id: "pump-1",
        right: "ServiceConnect",
    };

    #[test]
    fn a_code_is_found_in_every_form_that_the_hub_writes() {
        for (text, code) in [
            (
                "ErrorCode:DeviceNotOnline;Timed out waiting for device",
                Some(404_103),
            ),
            (r#"{"errorCode":404103,"trackingId":"x"}"#, Some(404_103)),
            (
                r#"{\"errorCode\":504101,\"message\":\"late\"}"#,
                Some(504_101),
            ),
            ("errorCode: 403004", Some(403_004)),
            ("ErrorCode:ThrottlingException", Some(429_001)),
            (
                "errorcode=nonsense; ErrorCode: DeviceNotFound",
                Some(404_001),
            ),
            ("ErrorCode:", None),
            ("ErrorCode:12", None),
            ("nothing 404001", None),
            ("", None),
        ] {
            assert_eq!(code_in(text), code, "{text}");
        }
    }

    #[test]
    fn every_code_has_its_meaning() {
        let id = || "pump-1".to_owned();
        let what = || "the direct method".to_owned();
        let answer = || "so".to_owned();
        for (code, error) in [
            (
                400_004,
                HubError::Invalid {
                    what: what(),
                    answer: answer(),
                },
            ),
            (
                401_003,
                HubError::Denied {
                    what: "the direct method needs the right ServiceConnect: so".into(),
                },
            ),
            (403_002, HubError::QuotaExceeded),
            (403_004, HubError::QueueFull { id: id() }),
            (403_010, HubError::NotInTier { what: what() }),
            (404_001, HubError::DeviceNotFound { id: id() }),
            (404_010, HubError::DeviceNotFound { id: id() }),
            (
                404_002,
                HubError::NotFound {
                    what: "the direct method: so".into(),
                },
            ),
            (404_103, HubError::NotOnline { id: id() }),
            (
                404_104,
                HubError::Unavailable {
                    what: what(),
                    answer: answer(),
                },
            ),
            (403_003, HubError::Throttled { retry_after: None }),
            (403_006, HubError::Throttled { retry_after: None }),
            (409_001, HubError::AlreadyExists { id: id() }),
            (412_001, HubError::Changed { what: id() }),
            (413_001, HubError::TooLarge { what: what() }),
            (413_002, HubError::TooManyDevices),
            (429_001, HubError::Throttled { retry_after: None }),
            (429_004, HubError::TooManyJobs),
            (
                500_001,
                HubError::Unavailable {
                    what: what(),
                    answer: answer(),
                },
            ),
            (
                503_001,
                HubError::Unavailable {
                    what: what(),
                    answer: answer(),
                },
            ),
            (504_101, HubError::MethodTimedOut { id: id() }),
        ] {
            assert_eq!(refused(code, SUBJECT, "so", None), error, "{code}");
        }
    }

    #[test]
    fn a_status_without_a_code_has_a_meaning() {
        let after = Some(Duration::from_secs(7));
        assert_eq!(
            refused_by_status(429, SUBJECT, "", after),
            HubError::Throttled { retry_after: after }
        );
        assert_eq!(
            refused_by_status(302, SUBJECT, "", None),
            HubError::Unexpected {
                what: "the direct method".into(),
                answer: "status 302".into()
            }
        );
        assert!(matches!(
            refused_by_status(504, SUBJECT, "", None),
            HubError::Unavailable { .. }
        ));
    }

    #[test]
    fn what_jobs_are_refused_for_is_known_by_name() {
        let text = "ErrorCode:OperationNotAllowedInCurrentState;Job cannot be cancelled in 'Running' status.";
        for status in [400, 403, 409] {
            let error = refused_by_status(status, SUBJECT, text, None);
            assert!(matches!(error, HubError::NotInThisState { .. }), "{error}");
        }
        assert_eq!(
            refused_by_status(404, SUBJECT, "ErrorCode:JobNotFound;no", None),
            HubError::JobNotFound {
                id: "pump-1".into()
            }
        );
    }

    #[test]
    fn words_are_one_short_line() {
        assert_eq!(words(" a\r\n\tb "), "a b");
        assert_eq!(words(&"ä".repeat(LONGEST)), "ä".repeat(LONGEST));
        let long = words(&"ä".repeat(LONGEST + 5));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with('…'));
    }
}
