//! Claims-based security: the token that lets a connection do things, put to the node `$cbs`.
//!
//! Written over `fe2o3-amqp-management`, as `fe2o3-amqp-cbs` takes only 202 for a success and a hub
//! answers 200.

use std::time::Duration;

use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp_management::{
    Request, Response,
    client::MgmtClient,
    constants::NAME,
    error::{AttachError, Error, StatusError},
    mgmt_ext::AmqpMessageManagementExt,
    status::StatusCode,
};
use fe2o3_amqp_types::{
    messaging::{ApplicationProperties, Message},
    primitives::Value,
};
use tokio::time::{sleep, timeout};

use crate::{
    HubConnectionString, HubError,
    amqp::fault,
    refusal::words,
    token::{LIFE, sign, unix_now},
};

/// A put-token is a handful of round trips.
const PUT: Duration = Duration::from_secs(10);
/// When a token is put again: at three quarters of its life, as Microsoft's Node SDK does.
const RENEWAL: Duration = Duration::from_secs(LIFE.as_secs() / 4 * 3);

const NODE: &str = "$cbs";
const TOKEN_TYPE: &str = "servicebus.windows.net:sastoken";
/// What the hub is asked for, in an error.
const WHAT: &str = "authorising the AMQP connection";

/// Puts a fresh token. The links live only as long as that: the service closes idle ones.
pub(super) async fn put(
    session: &mut SessionHandle<()>,
    connection: &HubConnectionString,
) -> Result<(), HubError> {
    let token = sign(connection, unix_now())?;
    let request = PutToken {
        audience: format!("https://{}", connection.host),
        token: token.expose().to_owned(),
    };
    let round_trips = async {
        let mut node = MgmtClient::builder()
            .management_node_address(NODE)
            .client_node_addr("cbs")
            .attach(session)
            .await
            .map_err(|error| unattached(&error))?;
        let put = node.call(request).await;
        // Closed in every case: a dropped receiver takes the whole connection down.
        let closed = node.close().await;
        let Accepted = put.map_err(|error| refused(&error))?;
        closed.map_err(|error| transport(&error))
    };
    timeout(PUT, round_trips)
        .await
        .unwrap_or_else(|_| Err(HubError::TimedOut { what: WHAT.into() }))
}

/// Puts a fresh token before the last one runs out. Ends with an error only.
pub(crate) async fn renew(
    tokens: &mut SessionHandle<()>,
    connection: &HubConnectionString,
) -> HubError {
    loop {
        sleep(RENEWAL).await;
        if let Err(error) = put(tokens, connection).await {
            return error;
        }
        tracing::debug!("the token of the AMQP connection is renewed");
    }
}

struct PutToken {
    audience: String,
    token: String,
}

impl Request for PutToken {
    const OPERATION: &'static str = "put-token";

    type Response = Accepted;

    type Body = String;

    fn manageable_entity_type(&mut self) -> Option<String> {
        Some(TOKEN_TYPE.to_owned())
    }

    fn encode_application_properties(&mut self) -> Option<ApplicationProperties> {
        let properties = ApplicationProperties::builder().insert(NAME, self.audience.clone());
        Some(properties.build())
    }

    fn encode_body(self) -> String {
        self.token
    }
}

/// The node has taken the token.
struct Accepted;

impl Response for Accepted {
    /// A hub's; the Event Hubs' is 202.
    const STATUS_CODE: u16 = 200;

    type Body = Value;

    type Error = Error;

    fn verify_status_code(message: &mut Message<Value>) -> Result<StatusCode, Error> {
        let code = match message.remove_status_code() {
            Some(Ok(code)) => code,
            Some(Err(_)) => return Err(Error::DecodeError(None)),
            None => return Err(Error::StatusCodeNotFound),
        };
        if matches!(code.0.get(), 200 | 202) {
            return Ok(code);
        }
        let description = message.remove_status_description().and_then(Result::ok);
        Err(StatusError { code, description }.into())
    }

    fn decode_message(_: Message<Value>) -> Result<Self, Error> {
        Ok(Self)
    }
}

fn unattached(error: &AttachError) -> HubError {
    match error {
        AttachError::Sender(error) => fault::sender_unattached(WHAT, error),
        AttachError::Receiver(error) => fault::receiver_unattached(WHAT, error),
    }
}

fn refused(error: &Error) -> HubError {
    let Error::Status(StatusError { code, description }) = error else {
        return transport(error);
    };
    let text = description.as_deref().unwrap_or_default();
    let answer = words(&format!("{} {text}", code.0));
    let what = WHAT.to_owned();
    match code.0.get() {
        401 | 403 => HubError::Denied {
            what: format!("{what}: {answer}"),
        },
        404 => HubError::NotFound {
            what: format!("{what}: {answer}"),
        },
        429 => HubError::Throttled { retry_after: None },
        500..=599 => HubError::Unavailable { what, answer },
        _ => HubError::Refused { what, answer },
    }
}

fn transport(error: &impl std::fmt::Display) -> HubError {
    fault::transport(WHAT, error)
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::primitives::SimpleValue;

    use super::*;

    fn answer(code: SimpleValue) -> Result<Accepted, Error> {
        let properties = ApplicationProperties::builder()
            .insert("status-code", code)
            .insert("status-description", "so it is");
        Accepted::from_message(
            Message::builder()
                .application_properties(properties.build())
                .body(Value::Null)
                .build(),
        )
    }

    #[test]
    fn both_faces_success_is_success() {
        assert!(answer(SimpleValue::Int(200)).is_ok());
        assert!(answer(SimpleValue::Int(202)).is_ok());
        assert!(answer(SimpleValue::Null).is_err());
    }

    #[test]
    fn a_refused_token_is_denied() {
        let error = answer(SimpleValue::Int(401)).err().unwrap();
        assert_eq!(
            refused(&error),
            HubError::Denied {
                what: format!("{WHAT}: 401 so it is")
            }
        );
        let error = answer(SimpleValue::Int(503)).err().unwrap();
        assert!(matches!(refused(&error), HubError::Unavailable { .. }));
    }

    #[test]
    fn the_request_names_the_hub_and_the_kind_of_token() {
        let request = PutToken {
            audience: "https://h".into(),
            token: "SharedAccessSignature …".into(),
        };
        let message = request.into_message();
        let properties = message.application_properties.unwrap();
        let text = |name: &str| match properties.get(name) {
            Some(SimpleValue::String(text)) => text.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(text("operation"), "put-token");
        assert_eq!(text("type"), TOKEN_TYPE);
        assert_eq!(text("name"), "https://h");
        assert_eq!(message.body, "SharedAccessSignature …");
    }
}
