//! What the crate promises over HTTPS, against a hub that the tests play.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use iothub::{HubError, HubRest, HubRestSettings, HubTls, MethodAnswer, MethodCall, Taken};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

/// Serves one request a connection, each with the same answer; an empty one closes the connection.
async fn hub(name: &str, answer: &'static str) -> (HubRest, mpsc::UnboundedReceiver<String>) {
    let signed = rcgen::generate_simple_self_signed(vec![name.into()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (seen, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = tls.accept(stream).await else {
                continue;
            };
            let mut request = String::new();
            let mut buffer = [0; 4096];
            // A body is the last, and ends in a brace; a request that only reads has none.
            let whole = |request: &str| {
                request.ends_with('}')
                    || request.starts_with("GET") && request.ends_with("\r\n\r\n")
            };
            while !whole(&request) {
                let read = stream.read(&mut buffer).await.unwrap();
                request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            }
            seen.send(request).unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let text = "HostName=my-hub.example;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0";
    let rest = HubRest::new(HubRestSettings {
        connection: text.parse().unwrap(),
        tls: HubTls {
            ca: Some(signed.cert.pem().into()),
        },
        address: Some(address),
        proxy: None,
    });
    (rest.unwrap(), requests)
}

fn call(payload: &Value) -> MethodCall<'_> {
    MethodCall {
        device: "pump 1",
        module: None,
        name: "reboot",
        payload,
        response_timeout: Duration::from_secs(7),
        connect_timeout: Duration::ZERO,
    }
}

#[tokio::test]
async fn a_method_is_asked_for_as_the_hub_wants_it() {
    let (rest, mut requests) = hub(
        "my-hub.example",
        "HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"status\":200}",
    )
    .await;
    rest.invoke(call(&json!({"in": 5}))).await.unwrap();
    let (head, body) = {
        let request = requests.recv().await.unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    };
    assert!(
        head.starts_with("post /twins/pump%201/methods?api-version=2021-04-12 http/1.1"),
        "{head}"
    );
    assert!(head.contains("\r\nhost: my-hub.example\r\n"), "{head}");
    assert!(
        head.contains("\r\nauthorization: sharedaccesssignature sr=my-hub.example&sig="),
        "{head}"
    );
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!({
            "methodName": "reboot",
            "payload": {"in": 5},
            "responseTimeoutInSeconds": 7,
            "connectTimeoutInSeconds": 0,
        })
    );
}

#[tokio::test]
async fn the_devices_answer_comes_back() {
    let (rest, _requests) = hub(
        "my-hub.example",
        "HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n{\"status\":201,\"payload\":[\"x\"]}",
    )
    .await;
    let payload = json!(["x"]);
    let expected = MethodAnswer {
        status: 201,
        payload,
    };
    assert_eq!(rest.invoke(call(&json!({"in": 5}))).await, Ok(expected));
}

#[tokio::test]
async fn a_throttle_says_when_to_come_back() {
    let (rest, _requests) = hub(
        "my-hub.example",
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 3\r\n\
         iothub-errorcode: ThrottlingException\r\ncontent-length: 2\r\n\r\n{}",
    )
    .await;
    let retry_after = Some(Duration::from_secs(3));
    assert_eq!(
        rest.invoke(call(&json!({"in": 5}))).await,
        Err(HubError::Throttled { retry_after })
    );
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_the_outcome_open() {
    let (rest, mut requests) = hub("my-hub.example", "").await;
    let error = rest.invoke(call(&json!({"in": 5}))).await.unwrap_err();
    assert!(matches!(error, HubError::OutcomeUnknown { .. }), "{error}");
    requests.recv().await.unwrap();
    assert!(requests.try_recv().is_err(), "it is not sent again");
}

#[tokio::test]
async fn a_certificate_of_another_host_is_refused_before_anything_is_sent() {
    let (rest, mut requests) = hub("another.example", "").await;
    let error = rest.invoke(call(&json!({"in": 5}))).await.unwrap_err();
    assert!(matches!(error, HubError::Transport { .. }), "{error}");
    assert_eq!(error.taken(), Taken::No);
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn a_twin_is_read_as_the_hub_has_it() {
    let (rest, mut requests) = hub(
        "my-hub.example",
        "HTTP/1.1 200 OK\r\ncontent-length: 33\r\n\r\n{\"deviceId\":\"pump 1\",\"version\":7}",
    )
    .await;
    let twin = rest.twin("pump 1", Some("cam/2")).await;
    assert_eq!(twin, Ok(json!({"deviceId": "pump 1", "version": 7})));
    let head = requests.recv().await.unwrap().to_ascii_lowercase();
    assert!(
        head.starts_with("get /twins/pump%201/modules/cam%2f2?api-version=2021-04-12 http/1.1"),
        "{head}"
    );
    assert!(head.contains("\r\nauthorization: sharedaccesssignature sr="));
}

#[tokio::test]
async fn a_twin_that_is_not_there_is_no_device() {
    let (rest, _requests) = hub(
        "my-hub.example",
        "HTTP/1.1 404 Not Found\r\niothub-errorcode: DeviceNotFound\r\ncontent-length: 2\r\n\r\n{}",
    )
    .await;
    for device in ["ghost", "..", ""] {
        let error = rest.twin(device, None).await.unwrap_err();
        assert_eq!(error, HubError::DeviceNotFound { id: device.into() });
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    let endless = "x".repeat(2 * 1024 * 1024);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n{endless}");
    let (rest, _requests) = hub("my-hub.example", answer.leak()).await;
    let error = rest.twin("pump 1", None).await.unwrap_err();
    assert!(matches!(error, HubError::Unexpected { .. }), "{error}");
    assert_eq!(error.taken(), Taken::Unknown);
}
