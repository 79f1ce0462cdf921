//! Limits, counts and lost answers.

use std::{future::pending, sync::Arc};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{Method, header::CONTENT_LENGTH},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use percent_encoding::percent_decode_str;

use crate::{hub::Hub, operation::Operation};

use super::{Line, error::Failure};

/// Bytes of a direct method that count as one operation. Source: Microsoft Learn, "IoT Hub quotas and
/// throttling".
const STEP: f64 = 4096.0;

/// Lets a request through if its class allows it; loses the answer if a test wants so.
pub(super) async fn pass(
    State(hub): State<Arc<Hub>>,
    ConnectInfo(Line(line)): ConnectInfo<Line>,
    request: Request,
    next: Next,
) -> Response {
    let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
    let operation = class(request.method(), &path);
    if let Err(refusal) = hub.admit(operation, cost(operation, &request)) {
        return Failure::from(refusal).into_response();
    }
    let answer = next.run(request).await;
    if hub.faults.loses(operation) {
        hub.meter.lost(operation);
        line.cancel();
        return pending().await;
    }
    answer
}

fn class(method: &Method, path: &str) -> Operation {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if path.ends_with("/methods") {
        Operation::Methods
    } else if path == "/devices/query" {
        Operation::Queries
    } else if path.starts_with("/jobs/") {
        Operation::Jobs
    } else if path.starts_with("/twins/") && reads {
        Operation::TwinReads
    } else if path.starts_with("/twins/") {
        Operation::TwinUpdates
    } else {
        Operation::Registry
    }
}

fn cost(operation: Operation, request: &Request) -> f64 {
    let length = request.headers().get(CONTENT_LENGTH);
    let length: Option<u32> = length.and_then(|length| length.to_str().ok()?.parse().ok());
    match (operation, length) {
        (Operation::Methods, Some(length)) => (f64::from(length) / STEP).ceil().max(1.0),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_class() {
        for (method, path, expected) in [
            (Method::POST, "/twins/d/methods", Operation::Methods),
            (
                Method::POST,
                "/twins/d/modules/m/methods",
                Operation::Methods,
            ),
            (Method::GET, "/twins/d", Operation::TwinReads),
            (Method::PATCH, "/twins/d/modules/m", Operation::TwinUpdates),
            (Method::POST, "/devices/query", Operation::Queries),
            (Method::PUT, "/devices/query2", Operation::Registry),
            (Method::GET, "/statistics/devices", Operation::Registry),
            (Method::PUT, "/jobs/v2/j", Operation::Jobs),
        ] {
            assert_eq!(class(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn large_methods_cost_more() {
        let cost = |length: u32| {
            let request = Request::builder().header(CONTENT_LENGTH, length);
            cost(
                Operation::Methods,
                &request.body(axum::body::Body::empty()).unwrap(),
            )
        };
        assert_eq!((cost(0), cost(4096), cost(4097)), (1.0, 1.0, 2.0));
    }
}
