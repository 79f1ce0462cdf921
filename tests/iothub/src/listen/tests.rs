//! The real thing, on ports that are free.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client};
use tokio_util::sync::CancellationToken;

use crate::{
    fault::{FaceName, Fault},
    probe::{ask, settings, token},
    tls,
};

use super::{Addresses, Running, Settings, run};

/// Time for what should happen at once.
const SOON: Duration = Duration::from_secs(10);

async fn start(shutdown: &CancellationToken) -> (Running, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["hub.example".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    let free = "127.0.0.1:0".parse().unwrap();
    let settings = Settings {
        hub: settings(),
        addresses: Addresses {
            mqtt: free,
            hub_amqp: free,
            events_amqp: free,
            events_plain: Some(free),
            https: free,
            events_https: None,
            control: free,
        },
        tls: tls::from_pem(made.cert.pem().as_bytes(), key.as_bytes()).unwrap(),
    };
    let running = run(settings, shutdown.clone()).await.unwrap();
    (running, made.cert.der().clone())
}

async fn connect(
    stream: TcpStream,
    trusted: &CertificateDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("hub.example").unwrap(), stream)
        .await
        .unwrap()
}

#[tokio::test]
async fn serves_both_versions_of_tls_and_ends_with_its_connections() {
    let shutdown = CancellationToken::new();
    let (running, trusted) = start(&shutdown).await;
    let token = token("owner");
    let https = running.addresses.https;
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let stream = connect(TcpStream::connect(https).await.unwrap(), &trusted, versions).await;
        let request = "GET /devices?api-version=2021-04-12";
        let answer = ask(stream, request, &[("authorization", &token)], None).await;
        assert_eq!((answer.status, answer.body), (200, serde_json::json!([])));
    }
    let control = TcpStream::connect(running.addresses.control).await.unwrap();
    assert_eq!(ask(control, "GET /health", &[], None).await.status, 200);

    // Connected, but not yet shaking hands; and connected for good.
    let mut raw = TcpStream::connect(running.addresses.mqtt).await.unwrap();
    let stream = TcpStream::connect(running.addresses.hub_amqp)
        .await
        .unwrap();
    let mut idle = connect(stream, &trusted, rustls::ALL_VERSIONS).await;
    shutdown.cancel();
    timeout(SOON, running.ended()).await.unwrap();
    let byte = &mut [0; 1];
    assert!(matches!(
        timeout(SOON, raw.read(byte)).await.unwrap(),
        Ok(0) | Err(_)
    ));
    assert!(matches!(
        timeout(SOON, idle.read(byte)).await.unwrap(),
        Ok(0) | Err(_)
    ));
    assert!(
        TcpStream::connect(https).await.is_err(),
        "the port is free again"
    );
}

#[tokio::test]
async fn connections_are_dropped_by_a_fault_even_before_tls() {
    let shutdown = CancellationToken::new();
    let (running, _) = start(&shutdown).await;
    let mut raw = TcpStream::connect(running.addresses.events_amqp)
        .await
        .unwrap();
    let count = || running.hub.connections.count(FaceName::EventsAmqp);
    while count() == 0 {
        tokio::task::yield_now().await;
    }
    running.hub.inject(&Fault::DropConnections {
        face: None,
        device: None,
    });
    assert!(matches!(
        timeout(SOON, raw.read(&mut [0; 1])).await.unwrap(),
        Ok(0) | Err(_)
    ));
    timeout(SOON, async {
        while count() != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    shutdown.cancel();
    timeout(SOON, running.ended()).await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let shutdown = CancellationToken::new();
    let (running, _) = start(&shutdown).await;
    let made = rcgen::generate_simple_self_signed(["hub.example".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    let settings = Settings {
        hub: settings(),
        addresses: running.addresses,
        tls: tls::from_pem(made.cert.pem().as_bytes(), key.as_bytes()).unwrap(),
    };
    let error = run(settings, shutdown.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("mqtt: 127.0.0.1:"), "{error}");
    shutdown.cancel();
    timeout(SOON, running.ended()).await.unwrap();
}
