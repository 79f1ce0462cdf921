//! Asking a hub where its built-in endpoint is.

use std::sync::{Arc, Mutex};

use fe2o3_amqp::acceptor::{
    ConnectionAcceptor, LinkAcceptor, LinkEndpoint, SaslAcceptor, SessionAcceptor,
    sasl_acceptor::SaslServerFrame,
};
use fe2o3_amqp_types::{
    definitions::{AmqpError, Error, ErrorCondition, LinkError},
    primitives::{Array, OrderedMap, Symbol, Value},
    sasl::{SaslCode, SaslInit, SaslOutcome, SaslResponse},
};
use iothub::{BuiltInEndpoint, HubAmqpSettings, HubError, HubTls, Way, built_in_endpoint};
use tokio::net::TcpListener;

use crate::broker::localhost;

const KEY: &str = "c2VjcmV0";

/// Takes whoever logs in with a password, or nobody; remembers it.
#[derive(Clone)]
struct Door {
    open: bool,
    seen: Arc<Mutex<Vec<String>>>,
}

impl SaslAcceptor for Door {
    fn mechanisms(&self) -> Array<Symbol> {
        Array::from(vec![Symbol::from("PLAIN")])
    }

    fn on_init(&mut self, init: SaslInit) -> SaslServerFrame {
        let response = init.initial_response.unwrap().into_vec();
        let text = String::from_utf8(response).unwrap();
        let parts = text.split('\0').skip(1).map(str::to_owned);
        *self.seen.lock().unwrap() = parts.collect();
        let code = if self.open {
            SaslCode::Ok
        } else {
            SaslCode::Auth
        };
        SaslServerFrame::Outcome(SaslOutcome {
            code,
            additional_data: None,
        })
    }

    fn on_response(&mut self, _: SaslResponse) -> SaslServerFrame {
        unreachable!("PLAIN has one step")
    }
}

/// A hub that answers the one link with an error. Gives what was found out, and what it has seen: user,
/// password, address.
async fn ask(
    open: bool,
    condition: impl Into<ErrorCondition>,
    info: &[(&str, &str)],
) -> (Result<BuiltInEndpoint, HubError>, Vec<String>) {
    let (tls, ca) = localhost();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let door = Door {
        open,
        seen: seen.clone(),
    };
    let mut fields = OrderedMap::new();
    for (name, value) in info {
        fields.insert(Symbol::from(*name), Value::String((*value).to_owned()));
    }
    let error = Error::new(condition, Some("said the broker".into()), Some(fields));
    let asked = seen.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = ConnectionAcceptor::builder()
            .container_id("hub")
            .sasl_acceptor(door)
            .build();
        let stream = tls.accept(stream).await.unwrap();
        let Ok(mut connection) = acceptor.accept(stream).await else {
            return;
        };
        let mut session = SessionAcceptor::new()
            .accept(&mut connection)
            .await
            .unwrap();
        let link = LinkAcceptor::new().accept(&mut session).await.unwrap();
        let LinkEndpoint::Sender(sender) = link else {
            unreachable!("a receiver is attached")
        };
        let address = sender.source().clone().unwrap().address.unwrap();
        asked.lock().unwrap().push(address);
        let _ = sender.close_with_error(error).await;
        let _ = session.on_end().await;
        let _ = connection.on_close().await;
    });
    let text = format!("HostName=localhost;SharedAccessKeyName=reader;SharedAccessKey={KEY}");
    let settings = HubAmqpSettings {
        connection: text.parse().unwrap(),
        tls: HubTls {
            ca: Some(ca.into()),
        },
        application_id: "test".into(),
        address: Some(address),
        way: Way::default(),
    };
    let told = built_in_endpoint(&settings).await;
    let seen = seen.lock().unwrap().clone();
    (told, seen)
}

#[tokio::test]
async fn the_hub_tells_where_its_built_in_endpoint_is() {
    let info = [
        ("hostname", "ns.example"),
        ("network-host", "ns.example"),
        ("port", "5671"),
        ("address", "amqps://ns.example:5671/entity/$management"),
    ];
    let (told, seen) = ask(true, LinkError::Redirect, &info).await;
    let BuiltInEndpoint {
        connection,
        custom_endpoint,
    } = told.unwrap();
    assert_eq!(custom_endpoint, None);
    assert_eq!(connection.namespace, "ns.example");
    assert_eq!(connection.entity, "entity");
    assert_eq!(connection.policy, "reader");
    assert_eq!(
        connection.key.expose(),
        KEY,
        "the text, for signing as it is"
    );
    let [user, password, address] = seen.as_slice() else {
        panic!("{seen:?}")
    };
    assert_eq!(user, "reader@sas.root.localhost");
    let token = "SharedAccessSignature sr=localhost%2Fmessages%2Fevents&";
    assert!(password.starts_with(token), "{password}");
    assert_eq!(address, "amqps://localhost/messages/events/$management");
}

#[tokio::test]
async fn a_policy_without_the_right_is_denied_and_the_right_is_named() {
    let (told, _) = ask(true, AmqpError::UnauthorizedAccess, &[]).await;
    let error = told.unwrap_err();
    assert!(matches!(error, HubError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("Service connect"), "{error}");
    let (told, _) = ask(false, LinkError::Redirect, &[]).await;
    let error = told.unwrap_err();
    assert!(matches!(error, HubError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("Service connect"), "{error}");
}

#[tokio::test]
async fn a_hub_that_does_not_redirect_is_unexpected() {
    let (told, _) = ask(true, AmqpError::NotAllowed, &[]).await;
    let error = told.unwrap_err();
    assert!(matches!(error, HubError::Unexpected { .. }), "{error}");
    let (told, _) = ask(true, LinkError::Redirect, &[("hostname", "ns.example")]).await;
    let error = told.unwrap_err();
    assert!(matches!(error, HubError::Unexpected { .. }), "{error}");
}
