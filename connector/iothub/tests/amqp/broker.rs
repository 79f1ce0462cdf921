//! A hub's AMQP faces, as far as the tests need them, over the acceptor of `fe2o3-amqp`.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fe2o3_amqp::{
    Receiver, Sender,
    acceptor::{
        ConnectionAcceptor, LinkAcceptor, LinkEndpoint, ListenerConnectionHandle,
        ListenerSessionHandle, SaslAnonymousMechanism, SessionAcceptor,
    },
};
use fe2o3_amqp_types::{
    definitions::{AmqpError, Error, LinkError},
    messaging::{AmqpValue, ApplicationProperties, Body, Message, MessageAnnotations, Properties},
    primitives::{Array, OrderedMap, SimpleValue, Symbol, Timestamp, Value},
};
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

/// TLS for `localhost`, and the certificate (PEM) to trust.
pub fn localhost() -> (TlsAcceptor, String) {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(tls)), signed.cert.pem())
}

/// What the hub does.
pub struct Broker {
    /// Status of every put-token.
    pub token_status: AtomicI32,
    /// Messages are answered once so many have come.
    pub answer_after: AtomicUsize,
    /// Ends every connection.
    pub cut: Notify,
    /// The partition's events are due.
    pub events: AtomicUsize,
    /// Closes every reader, as an eviction does.
    pub steal: AtomicBool,
    /// What refuses readers, if anything.
    pub refuse_readers: Mutex<Option<(LinkError, String)>>,
    /// The filters of the readers that have attached.
    pub readers: Mutex<Vec<String>>,
}

impl Broker {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            token_status: AtomicI32::new(200),
            answer_after: AtomicUsize::new(1),
            cut: Notify::new(),
            events: AtomicUsize::new(0),
            steal: AtomicBool::new(false),
            refuse_readers: Mutex::new(None),
            readers: Mutex::new(Vec::new()),
        })
    }

    /// Serves on a free port; gives the address.
    pub async fn listen(self: &Arc<Self>, tls: Option<TlsAcceptor>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let broker = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (broker, tls) = (broker.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => broker.serve(tls.accept(stream).await.unwrap()).await,
                        None => broker.serve(stream).await,
                    }
                });
            }
        });
        address
    }

    /// Serves one connection.
    pub async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin + 'static,
    ) {
        let acceptor = ConnectionAcceptor::builder()
            .container_id("hub")
            .sasl_acceptor(SaslAnonymousMechanism {})
            .build();
        let Ok(mut connection): Result<ListenerConnectionHandle, _> = acceptor.accept(stream).await
        else {
            return;
        };
        let sessions = SessionAcceptor::new();
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                () = self.cut.notified() => {
                    tasks.abort_all();
                    let _ = connection.close_with_error(AmqpError::InternalError).await;
                    return;
                }
                session = sessions.accept(&mut connection) => match session {
                    Ok(session) => { tasks.spawn(self.clone().links(session)); }
                    Err(_) => return,
                },
            }
        }
    }

    async fn links(self: Arc<Self>, mut session: ListenerSessionHandle) {
        let links = LinkAcceptor::new();
        let (mut asked, mut answering) = (HashMap::new(), HashMap::new());
        let mut tasks = tokio::task::JoinSet::new();
        while let Ok(link) = links.accept(&mut session).await {
            let node = match link {
                LinkEndpoint::Receiver(receiver) => {
                    let target = receiver.target().clone().unwrap();
                    let node = target.address.unwrap();
                    if node == "/messages/devicebound" {
                        tasks.spawn(self.clone().devicebound(receiver));
                        continue;
                    }
                    asked.insert(node.clone(), receiver);
                    node
                }
                LinkEndpoint::Sender(sender) => {
                    let source = sender.source().clone().unwrap();
                    let node = source.address.unwrap();
                    if node.contains("/Partitions/") {
                        let filter = format!("{:?}", source.filter);
                        tasks.spawn(self.clone().partition(sender, filter));
                        continue;
                    }
                    answering.insert(node.clone(), sender);
                    node
                }
            };
            if asked.contains_key(&node) && answering.contains_key(&node) {
                let pair = (
                    asked.remove(&node).unwrap(),
                    answering.remove(&node).unwrap(),
                );
                tasks.spawn(self.clone().answer(pair.0, pair.1, node));
            }
        }
    }

    /// `$cbs` and `$management`.
    async fn answer(self: Arc<Self>, mut asked: Receiver, mut answering: Sender, node: String) {
        while let Ok(delivery) = asked.recv::<Body<Value>>().await {
            asked.accept(&delivery).await.unwrap();
            let request = delivery.into_message();
            let own = request.application_properties.unwrap();
            let (status, body) = if node == "$cbs" {
                assert!(own.get("name").is_some() && own.get("type").is_some());
                (self.token_status.load(Ordering::SeqCst), Value::Null)
            } else {
                (200, self.about(own.get("type")))
            };
            let head = Properties::builder()
                .correlation_id(request.properties.unwrap().message_id.unwrap())
                .build();
            let own = ApplicationProperties::builder()
                .insert("status-code", SimpleValue::Int(status))
                .insert("status-description", "said the broker")
                .build();
            let answer = Message::builder()
                .properties(head)
                .application_properties(own)
                .body(AmqpValue(body))
                .build();
            if answering.send(answer).await.is_err() {
                return;
            }
        }
        let _ = asked.close().await;
        let _ = answering.close().await;
    }

    fn about(&self, kind: Option<&SimpleValue>) -> Value {
        let last = i64::try_from(self.events.load(Ordering::SeqCst)).unwrap() - 1;
        let mut map = OrderedMap::new();
        let mut put = |name: &str, value: Value| {
            map.insert(Value::String(name.into()), value);
        };
        put("name", Value::String("hub".into()));
        if kind == Some(&SimpleValue::String("com.microsoft:eventhub".into())) {
            let ids = ["0", "1"].map(|id| Value::String(id.into()));
            put("type", Value::String("com.microsoft:eventhub".into()));
            put("partition_count", Value::Int(2));
            put(
                "created_at",
                Value::Timestamp(Timestamp::from_milliseconds(1)),
            );
            put("partition_ids", Value::Array(Array::from(ids.to_vec())));
        } else {
            put("type", Value::String("com.microsoft:partition".into()));
            put("partition", Value::String("0".into()));
            put("begin_sequence_number", Value::Long(0));
            put("last_enqueued_sequence_number", Value::Long(last));
            put("last_enqueued_sequence_number_epoch", Value::Int(0));
            put("last_enqueued_offset", Value::String(last.to_string()));
            let time = Timestamp::from_milliseconds(1_764_000_000_000);
            put("last_enqueued_time_utc", Value::Timestamp(time));
            put("is_partition_empty", Value::Bool(last < 0));
        }
        Value::Map(map)
    }

    /// Messages for devices: `gone` does not exist, `mute` is never answered for.
    async fn devicebound(self: Arc<Self>, mut receiver: Receiver) {
        let mut waiting = Vec::new();
        while let Ok(delivery) = receiver.recv::<Body<Value>>().await {
            let to = delivery
                .message()
                .properties
                .as_ref()
                .unwrap()
                .to
                .clone()
                .unwrap();
            if to.contains("/mute/") {
                continue;
            }
            waiting.push((delivery, to));
            if waiting.len() < self.answer_after.load(Ordering::SeqCst) {
                continue;
            }
            for (delivery, to) in waiting.drain(..) {
                let answered = if to.contains("/gone/") {
                    let gone = Error::new(AmqpError::NotFound, Some("no such".into()), None);
                    receiver.reject(&delivery, gone).await
                } else {
                    receiver.accept(&delivery).await
                };
                answered.unwrap();
            }
        }
        let _ = receiver.close().await;
    }

    /// A reader of a partition: all events of it, then more as they come.
    async fn partition(self: Arc<Self>, mut sender: Sender, filter: String) {
        let refusal = self.refuse_readers.lock().unwrap().clone();
        if let Some((condition, text)) = refusal {
            let _ = sender
                .close_with_error(Error::new(condition, Some(text), None))
                .await;
            return;
        }
        self.readers.lock().unwrap().push(filter);
        let mut sent = 0;
        loop {
            if sent < self.events.load(Ordering::SeqCst) {
                if sender.send(event(sent)).await.is_err() {
                    break;
                }
                sent += 1;
                continue;
            }
            if self.steal.load(Ordering::SeqCst) {
                let text = "New receiver 'x' with higher epoch of '9' is created hence current \
                            receiver is getting disconnected.";
                let stolen = Error::new(LinkError::Stolen, Some(text.into()), None);
                let _ = sender.close_with_error(stolen).await;
                return;
            }
            tokio::select! {
                _ = sender.on_detach() => break,
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
        let _ = sender.close().await;
    }
}

fn event(sequence: usize) -> Message<fe2o3_amqp_types::messaging::Data> {
    let number = i64::try_from(sequence).unwrap();
    let time = Timestamp::from_milliseconds(1_764_000_000_000 + number);
    let annotations = MessageAnnotations::builder()
        .insert(
            Symbol::from("x-opt-offset"),
            Value::String(sequence.to_string()),
        )
        .insert(Symbol::from("x-opt-sequence-number"), Value::Long(number))
        .insert(Symbol::from("x-opt-enqueued-time"), Value::Timestamp(time))
        .insert(
            Symbol::from("iothub-connection-device-id"),
            Value::String("pump-1".into()),
        )
        .insert(
            Symbol::from("iothub-message-source"),
            Value::String("Telemetry".into()),
        );
    Message::builder()
        .message_annotations(annotations.build())
        .data(sequence.to_string().into_bytes())
        .build()
}
