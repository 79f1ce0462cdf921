//! Where the hub's built-in endpoint is, asked from the hub: whoever attaches to its telemetry at the
//! hub's own host is sent to the Event Hubs-compatible endpoint by `amqp:link:redirect`.
//!
//! As Microsoft's sample `iothubConnectionString` (azure-sdk-for-js, `sdk/eventhub/event-hubs/samples`)
//! does it: log in with SASL PLAIN, attach a receiver to `messages/events/$management`.

mod info;

use std::net::IpAddr;

use fe2o3_amqp::{
    Receiver,
    connection::ConnectionHandle,
    link::{LinkStateError, ReceiverAttachError, RecvError, receiver::CreditMode},
    sasl_profile::SaslProfile,
};
use fe2o3_amqp_types::{
    definitions::{AmqpError, Error, ErrorCondition, LinkError},
    messaging::Body,
    primitives::Value,
};

use crate::{
    EventHubsConnectionString, HubAmqpSettings, HubConnectionString, HubError,
    amqp::{self, fault, within},
    refusal::words,
    sas::hub_token,
    token::{LIFE, unix_now},
};

/// Where telemetry is looked for at the hub's own host.
const EVENTS: &str = "messages/events";
const NODE: &str = "$management";
/// What the hub is asked for, in an error.
const ASKING: &str = "asking the hub for its built-in endpoint";

/// The built-in endpoint, as the hub tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltInEndpoint {
    /// What the portal's page *Built-in endpoints* shows for the policy. The key is the same text as in
    /// the hub's own connection string; only the signing differs.
    pub connection: EventHubsConnectionString,
    /// `amqps://host:port`, if the endpoint is not at the port of AMQP over TLS.
    pub custom_endpoint: Option<String>,
}

/// Asks the hub where its built-in endpoint is. Takes some round trips, each with a time-out.
///
/// # Errors
/// [`HubError::Denied`] if the policy lacks the right *Service connect*, [`HubError::Unexpected`] if the
/// hub does not redirect, else why it could not be asked.
pub async fn built_in_endpoint(settings: &HubAmqpSettings) -> Result<BuiltInEndpoint, HubError> {
    let login = login(&settings.connection)?;
    let mut connection = amqp::open(settings, login).await?;
    let redirected = redirection(&mut connection, settings).await;
    amqp::close(&mut connection).await;
    let info::Target { host, port, entity } = info::target(&redirected?)?;
    let HubConnectionString { policy, key, .. } = settings.connection.clone();
    Ok(BuiltInEndpoint {
        custom_endpoint: port.map(|port| format!("amqps://{host}:{port}")),
        connection: EventHubsConnectionString {
            namespace: host,
            policy,
            key,
            entity,
        },
    })
}

/// User and password: a token for the hub's telemetry alone, in the name of the policy.
fn login(connection: &HubConnectionString) -> Result<SaslProfile, HubError> {
    let HubConnectionString { host, policy, key } = connection;
    let resource = format!("{host}/{EVENTS}");
    let token =
        hub_token(&resource, key, policy, unix_now() + LIFE.as_secs()).map_err(|error| {
            HubError::Settings {
                what: format!("SharedAccessKey of policy {policy:?}: {error}"),
            }
        })?;
    Ok(SaslProfile::Plain {
        username: format!("{policy}@sas.root.{}", hub_name(host)),
        password: token.expose().to_owned(),
    })
}

/// The hub's name is the first label of its host name; an address has none and is taken whole.
fn hub_name(host: &str) -> &str {
    if host.parse::<IpAddr>().is_ok() {
        return host;
    }
    host.split('.').next().unwrap_or(host)
}

/// Attaches, and gives the error with which the hub sends us elsewhere.
async fn redirection(
    connection: &mut ConnectionHandle<()>,
    settings: &HubAmqpSettings,
) -> Result<Error, HubError> {
    let mut session = amqp::begin(connection).await?;
    let host = settings.connection.host.as_str();
    let attaching = Receiver::builder()
        .name(format!("{}-redirect", settings.application_id))
        .source(format!("amqps://{host}/{EVENTS}/{NODE}"))
        // Nothing is wanted but the redirect.
        .credit_mode(CreditMode::Manual)
        .attach(&mut session);
    let refused = match within(ASKING, attaching).await? {
        // A peer that refuses a link either says so at once, or attaches it first.
        Err(ReceiverAttachError::RemoteClosedWithError(error)) => Ok(error),
        Err(error) => Err(fault::transport(ASKING, &error)),
        Ok(mut receiver) => {
            let detached = within(ASKING, receiver.recv::<Body<Value>>()).await;
            let refused = match detached {
                Ok(Err(RecvError::LinkStateError(
                    LinkStateError::RemoteClosedWithError(error)
                    | LinkStateError::RemoteDetachedWithError(error),
                ))) => Ok(error),
                Ok(Err(error)) => Err(fault::transport(ASKING, &error)),
                Ok(Ok(_)) | Err(_) => Err(not_redirected("it keeps the link")),
            };
            amqp::close_inside(async { receiver.close().await.map_err(|error| error.to_string()) })
                .await;
            refused
        }
    };
    amqp::close_inside(async { session.end().await.map_err(|error| error.to_string()) }).await;
    refused.and_then(|error| redirect(error, &settings.connection.policy))
}

/// The error, if it is a redirect; else what it means.
fn redirect(error: Error, policy: &str) -> Result<Error, HubError> {
    let text = error.description.as_deref().unwrap_or_default();
    match &error.condition {
        ErrorCondition::LinkError(LinkError::Redirect) => Ok(error),
        ErrorCondition::AmqpError(AmqpError::UnauthorizedAccess) => Err(HubError::Denied {
            what: words(&format!(
                "{ASKING}, for which the policy {policy:?} needs the right Service connect: {text}"
            )),
        }),
        // A hub that does not know the question; the rest is weather.
        ErrorCondition::AmqpError(
            AmqpError::NotAllowed | AmqpError::NotImplemented | AmqpError::InvalidField,
        ) => Err(not_redirected(&format!(
            "{}: {text}",
            fault::condition(&error.condition)
        ))),
        _ => Err(fault::closed_for(ASKING, &error)),
    }
}

fn not_redirected(answer: &str) -> HubError {
    HubError::Unexpected {
        what: "the question for its built-in endpoint".into(),
        answer: words(&format!("no redirect; {answer}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_name_is_the_first_label_of_its_host() {
        assert_eq!(hub_name("factory.azure-devices.net"), "factory");
        assert_eq!(hub_name("127.0.0.1"), "127.0.0.1");
        assert_eq!(hub_name("localhost"), "localhost");
    }

    #[test]
    fn what_is_no_redirect_is_told_by_who_can_mend_it() {
        let answer = |condition: ErrorCondition| {
            let error = Error::new(condition, Some("so it is".to_owned()), None);
            redirect(error, "reader").unwrap_err()
        };
        let denied = answer(AmqpError::UnauthorizedAccess.into());
        assert!(matches!(denied, HubError::Denied { .. }), "{denied}");
        assert!(denied.to_string().contains("Service connect"), "{denied}");
        assert!(denied.to_string().contains("\"reader\""), "{denied}");
        let unknown = answer(AmqpError::NotAllowed.into());
        assert!(matches!(unknown, HubError::Unexpected { .. }), "{unknown}");
        let gone = answer(AmqpError::NotFound.into());
        assert!(matches!(gone, HubError::NotFound { .. }), "{gone}");
        let ill = answer(AmqpError::InternalError.into());
        assert!(matches!(ill, HubError::Transport { .. }), "{ill}");
    }
}
