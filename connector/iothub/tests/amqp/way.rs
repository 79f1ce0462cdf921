//! Through a proxy, and in WebSockets.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use futures::{SinkExt, StreamExt};
use iothub::{
    C2dSender, Epoch, EventSource, HubAmqpSettings, HubError, HubTls, PartitionId, Position,
    SdkSource, SdkSourceSettings, Transport, Way,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional, duplex, split},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{Broker, localhost},
    devicebound::{LONG, send},
};

/// A proxy that leads everybody to one address, and remembers where they wanted to go.
struct ConnectProxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    refuses: Arc<AtomicBool>,
}

impl ConnectProxy {
    async fn to(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let refuses = Arc::new(AtomicBool::new(false));
        let (notes, closed) = (asked.clone(), refuses.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (address, notes, closed) = (address.clone(), notes.clone(), closed.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(near.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    let target = head.strip_prefix("CONNECT ").unwrap();
                    let target = target.split(' ').next().unwrap();
                    notes.lock().unwrap().push(target.to_owned());
                    if closed.load(Ordering::SeqCst) {
                        let _ = near.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await;
                        return;
                    }
                    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    let mut far = TcpStream::connect(address).await.unwrap();
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self {
            url,
            asked,
            refuses,
        }
    }

    fn way(&self, transport: Transport) -> Way {
        Way {
            transport,
            proxy: Some(self.url.parse().unwrap()),
        }
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.dedup();
        asked
    }
}

/// The broker behind WebSockets at `path`.
async fn listen_in_web_sockets(
    broker: &Arc<Broker>,
    tls: TlsAcceptor,
    path: &'static str,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let broker = broker.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = tls.accept(stream).await.unwrap();
            let socket = accept(stream, path).await;
            let (near, far) = duplex(64 * 1024);
            tokio::spawn(pump(socket, far));
            tokio::spawn(broker.clone().serve(near));
        }
    });
    address
}

async fn accept(stream: TlsStream<TcpStream>, path: &str) -> WebSocketStream<TlsStream<TcpStream>> {
    // The callback's error is a whole answer.
    #[allow(clippy::result_large_err)]
    let answer = |request: &Request, mut answer: Response| -> Result<Response, ErrorResponse> {
        assert_eq!(request.uri().path(), path);
        let protocol = request.headers()["sec-websocket-protocol"].clone();
        assert_eq!(protocol, "AMQPWSB10");
        answer
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        Ok(answer)
    };
    accept_hdr_async(stream, answer).await.unwrap()
}

async fn pump(socket: WebSocketStream<TlsStream<TcpStream>>, far: tokio::io::DuplexStream) {
    let (mut sink, mut messages) = socket.split();
    let (mut from, mut into) = split(far);
    let inward = async {
        while let Some(Ok(message)) = messages.next().await {
            if let Message::Binary(bytes) = message
                && into.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let message = Message::Binary(buffer[..read].to_vec().into());
            if sink.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = inward => {}, () = outward => {} }
}

fn sender(ca: String, way: Way, address: Option<String>) -> (C2dSender, CancellationToken) {
    let text = "HostName=localhost;SharedAccessKeyName=p;SharedAccessKey=c2VjcmV0";
    let settings = HubAmqpSettings {
        connection: text.parse().unwrap(),
        tls: HubTls {
            ca: Some(ca.into()),
        },
        application_id: "test".into(),
        address,
        way,
    };
    let end = CancellationToken::new();
    (C2dSender::start(settings, 16, end.clone()), end)
}

#[tokio::test]
async fn messages_for_devices_go_through_a_proxy() {
    let broker = Broker::new();
    let (tls, ca) = localhost();
    let proxy = ConnectProxy::to(broker.listen(Some(tls)).await).await;
    let (sender, _end) = sender(ca, proxy.way(Transport::Amqp), None);
    sender.prove(LONG).await.unwrap();
    assert_eq!(send(&sender, "pump-1", LONG).await, Ok(()));
    assert_eq!(proxy.asked(), ["localhost:5671"]);
}

#[tokio::test]
async fn messages_for_devices_go_in_web_sockets() {
    let broker = Broker::new();
    let (tls, ca) = localhost();
    let address = listen_in_web_sockets(&broker, tls, "/$iothub/websocket").await;
    let way = Way {
        transport: Transport::WebSockets,
        proxy: None,
    };
    let (straight, _end) = sender(ca.clone(), way, Some(address.clone()));
    straight.prove(LONG).await.unwrap();
    assert_eq!(send(&straight, "pump-1", LONG).await, Ok(()));

    let proxy = ConnectProxy::to(address).await;
    let (proxied, _end) = sender(ca, proxy.way(Transport::WebSockets), None);
    proxied.prove(LONG).await.unwrap();
    let id = "gone".to_owned();
    let gone = send(&proxied, "gone", LONG).await;
    assert_eq!(gone, Err(HubError::DeviceNotFound { id }));
    assert_eq!(proxy.asked(), ["localhost:443"]);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named() {
    let broker = Broker::new();
    let (tls, ca) = localhost();
    let proxy = ConnectProxy::to(broker.listen(Some(tls)).await).await;
    proxy.refuses.store(true, Ordering::SeqCst);
    let (sender, _end) = sender(ca, proxy.way(Transport::Amqp), None);
    let error = sender
        .prove(std::time::Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(matches!(error, HubError::Transport { .. }), "{error}");
    assert!(error.to_string().contains(&proxy.url), "{error}");
}

async fn read_through(proxy: &ConnectProxy, transport: Transport, broker: &Broker, ca: String) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    broker.token_status.store(202, Ordering::SeqCst);
    broker.events.store(1, Ordering::SeqCst);
    let text = "Endpoint=sb://localhost/;SharedAccessKeyName=p;SharedAccessKey=c2VjcmV0;\
                EntityPath=hub";
    let source = SdkSource::new(SdkSourceSettings {
        connection: text.parse().unwrap(),
        consumer_group: "thingworx".into(),
        application_id: "test".into(),
        tls: HubTls {
            ca: Some(ca.into()),
        },
        way: proxy.way(transport),
        custom_endpoint: None,
        request_timeout: LONG,
    })
    .unwrap();
    let zero = PartitionId::new("0");
    let mut reader = source
        .open(&zero, Position::Earliest, Epoch(1), 100)
        .await
        .unwrap();
    let first = timeout(LONG, reader.next(1)).await.unwrap().unwrap();
    assert_eq!(first[0].sequence, 0);
    timeout(LONG, reader.close()).await.unwrap().unwrap();
}

#[tokio::test]
async fn telemetry_is_read_through_a_proxy() {
    let broker = Broker::new();
    let (tls, ca) = localhost();
    let proxy = ConnectProxy::to(broker.listen(Some(tls)).await).await;
    read_through(&proxy, Transport::Amqp, &broker, ca).await;
    assert_eq!(proxy.asked(), ["localhost:5671"]);
}

#[tokio::test]
async fn telemetry_is_read_in_web_sockets_through_a_proxy() {
    let broker = Broker::new();
    let (tls, ca) = localhost();
    let address = listen_in_web_sockets(&broker, tls, "/$servicebus/websocket/").await;
    let proxy = ConnectProxy::to(address).await;
    read_through(&proxy, Transport::WebSockets, &broker, ca).await;
    assert_eq!(proxy.asked(), ["localhost:443"]);
}
