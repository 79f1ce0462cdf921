//! Who may call what.

use std::sync::Arc;

use axum::{
    extract::{Query, Request, State},
    http::{
        Method, StatusCode,
        header::{AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::{hub::Hub, policy::Right, refusal::Refusal, sas::SasError};

use super::error::Failure;

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    #[serde(rename = "api-version")]
    api_version: Option<String>,
}

/// Lets a request through that names an API version and carries a signature of a policy with the
/// right that its operation needs.
pub(super) async fn check(
    State(hub): State<Arc<Hub>>,
    Query(version): Query<Version>,
    request: Request,
    next: Next,
) -> Response {
    if without_length(&request) {
        return (StatusCode::LENGTH_REQUIRED, "Length Required").into_response();
    }
    match admit(&hub, &version, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => Failure::from(refusal).into_response(),
    }
}

/// What would carry a body must say how long it is (azure-iot-sdk-java#124).
fn without_length(request: &Request) -> bool {
    let headers = request.headers();
    let carries = matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    );
    carries && !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING)
}

fn admit(hub: &Hub, version: &Version, request: &Request) -> Result<(), Refusal> {
    let version = version.api_version.as_deref().unwrap_or_default();
    if !is_version(version) {
        return Err(Refusal::BadRequest(format!(
            "api-version is missing or unknown: {version:?}"
        )));
    }
    let token = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
    hub.check_service(token, &path, needed(request.method(), &path))
        .map(|_expires| ())
        .map_err(|error: SasError| Refusal::Unauthorized(format!("Unauthorized: {error}")))
}

/// `2021-04-12`, perhaps with `-preview`. Which of them exist is of no concern here.
fn is_version(text: &str) -> bool {
    let date = text.strip_suffix("-preview").unwrap_or(text);
    date.parse::<jiff::civil::Date>().is_ok() && date.len() == "2021-04-12".len()
}

/// Source: Microsoft Learn, "IoT Hub permissions"; of jobs "Schedule and broadcast jobs", which asks for
/// the two rights of the registry.
fn needed(method: &Method, path: &str) -> Right {
    let registry = ["/devices", "/jobs/", "/statistics/devices"];
    let registry = registry.iter().any(|folder| path.starts_with(folder));
    if !registry || path == "/devices/query" || path.ends_with("/commands") {
        Right::ServiceConnect
    } else if method == Method::GET || method == Method::HEAD {
        Right::RegistryRead
    } else {
        Right::RegistryWrite
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_needs_its_right() {
        let needs = |method, path| needed(&method, path);
        assert_eq!(needs(Method::GET, "/devices"), Right::RegistryRead);
        assert_eq!(needs(Method::PUT, "/devices/d"), Right::RegistryWrite);
        assert_eq!(
            needs(Method::DELETE, "/devices/d/modules/m"),
            Right::RegistryWrite
        );
        assert_eq!(
            needs(Method::DELETE, "/devices/d/commands"),
            Right::ServiceConnect
        );
        assert_eq!(needs(Method::POST, "/devices/query"), Right::ServiceConnect);
        assert_eq!(
            needs(Method::GET, "/statistics/devices"),
            Right::RegistryRead
        );
        assert_eq!(needs(Method::GET, "/jobs/v2/j"), Right::RegistryRead);
        assert_eq!(needs(Method::PUT, "/jobs/v2/j"), Right::RegistryWrite);
        assert_eq!(needs(Method::GET, "/twins/d"), Right::ServiceConnect);
        assert_eq!(
            needs(Method::POST, "/twins/d/methods"),
            Right::ServiceConnect
        );
    }

    #[test]
    fn versions_are_dates() {
        assert!(is_version("2021-04-12"));
        assert!(is_version("2020-05-31-preview"));
        for text in ["", "2021", "latest", "2021-04-12T00:00:00Z", "20210412"] {
            assert!(!is_version(text), "{text}");
        }
    }
}
