//! A device at one end of a pipe, the hub at the other.

mod command;
mod connection;

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use mqttbytes::{
    Error, QoS,
    v4::{
        self, Connect, ConnectReturnCode, Packet, PingReq, PubAck, Publish, Subscribe,
        SubscribeReasonCode,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    c2d::C2dMessage,
    fault::FaceName,
    hub::{Change, Etag, Hub, HubSettings, Keys, now_ms},
    identity::Identity,
    log::{Position, Reader, ReaderRequest},
    policy::Policies,
    receipt::Received,
    sas::{KeyForm, sign},
};

const HOST: &str = "hub.example";

const C2D: &str = "devices/d/messages/devicebound/#";
const TELEMETRY: &str = "devices/d/messages/events/";

/// Longer than anything takes; only a failing test waits for it.
const SOON: Duration = Duration::from_secs(10);

pub(in crate::mqtt) fn hub() -> Arc<Hub> {
    Hub::new(HubSettings {
        name: "hub".into(),
        hosts: vec![HOST.into()],
        event_hub: "hub".into(),
        partitions: 1,
        consumer_groups: Vec::new(),
        retention: 100,
        policies: Policies(Vec::new()),
        redirect: Vec::new(),
        routes: Vec::new(),
        feedback_every: Duration::from_millis(50),
    })
}

pub(in crate::mqtt) fn register(hub: &Hub, module: Option<&str>) -> (Identity, Keys) {
    let identity = Identity::new("d", module).unwrap();
    let view = hub
        .put(&identity, Change::default(), &Etag::Absent)
        .unwrap();
    (identity, view.keys)
}

/// What the SDKs say first, with a token for so many seconds.
pub(in crate::mqtt) fn connect(identity: &Identity, keys: &Keys, seconds: i64) -> Connect {
    let resource = format!("{HOST}/{}", identity.path());
    let expires = now_ms() / 1000 + seconds;
    let token = sign(&resource, &keys.primary, KeyForm::Decoded, expires, None);
    let mut connect = Connect::new(identity.to_string());
    connect.clean_session = false;
    connect.set_login(format!("{HOST}/{identity}/?api-version=2021-04-12"), token);
    connect
}

struct Device {
    stream: DuplexStream,
    buf: BytesMut,
    served: JoinHandle<()>,
}

impl Device {
    fn dial(hub: &Arc<Hub>) -> Self {
        let (stream, theirs) = tokio::io::duplex(64 * 1024);
        let connection = hub.connect(FaceName::Mqtt);
        let served = tokio::spawn(super::serve(Arc::clone(hub), theirs, connection));
        Self {
            stream,
            buf: BytesMut::new(),
            served,
        }
    }

    async fn login(&mut self, identity: &Identity, keys: &Keys, edit: impl FnOnce(&mut Connect)) {
        let mut connect = connect(identity, keys, 3600);
        edit(&mut connect);
        self.say(|buf| connect.write(buf)).await;
    }

    async fn connect(hub: &Arc<Hub>, identity: &Identity, keys: &Keys) -> Self {
        let mut device = Self::dial(hub);
        device.login(identity, keys, |_| {}).await;
        device.accepted().await;
        device
    }

    /// Waits for the CONNACK; gives whether a session lives on.
    async fn accepted(&mut self) -> bool {
        match self.hear().await {
            Packet::ConnAck(ack) => {
                assert_eq!(ack.code, ConnectReturnCode::Success);
                ack.session_present
            }
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&mut self) -> ConnectReturnCode {
        let Packet::ConnAck(ack) = self.hear().await else {
            panic!("not a CONNACK")
        };
        self.closed().await;
        ack.code
    }

    async fn say(&mut self, write: impl FnOnce(&mut BytesMut) -> Result<usize, Error>) {
        let mut buf = BytesMut::new();
        write(&mut buf).unwrap();
        self.stream.write_all(&buf).await.unwrap();
    }

    async fn hear(&mut self) -> Packet {
        loop {
            match v4::read(&mut self.buf, usize::MAX) {
                Ok(packet) => return packet,
                Err(Error::InsufficientBytes(_)) => {
                    let read = self.stream.read_buf(&mut self.buf);
                    assert_ne!(timeout(SOON, read).await.unwrap().unwrap(), 0, "closed");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    async fn hear_publish(&mut self) -> Publish {
        match self.hear().await {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?}"),
        }
    }

    /// Reads to the end; nothing but what was on its way comes.
    async fn closed(&mut self) {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        timeout(SOON, read).await.unwrap().unwrap();
        timeout(SOON, &mut self.served).await.unwrap().unwrap();
    }

    async fn publish(&mut self, topic: &str, qos: QoS, payload: impl Into<Vec<u8>>) {
        let mut publish = Publish::new(topic, qos, payload);
        publish.pkid = 7;
        self.say(|buf| publish.write(buf)).await;
    }

    async fn published(&mut self, topic: &str, payload: &str) {
        self.publish(topic, QoS::AtLeastOnce, payload).await;
        assert_eq!(self.hear().await, Packet::PubAck(PubAck::new(7)));
    }

    async fn subscribe(&mut self, filter: &str, qos: QoS) -> SubscribeReasonCode {
        let mut subscribe = Subscribe::new(filter, qos);
        subscribe.pkid = 9;
        self.say(|buf| subscribe.write(buf)).await;
        let Packet::SubAck(ack) = self.hear().await else {
            panic!("not a SUBACK")
        };
        assert_eq!((ack.pkid, ack.return_codes.len()), (9, 1));
        ack.return_codes[0]
    }

    async fn acknowledge(&mut self, pkid: u16) {
        self.say(|buf| PubAck::new(pkid).write(buf)).await;
    }

    /// When the answer is there all that was said before has been dealt with.
    async fn ping(&mut self) {
        self.say(|buf| PingReq.write(buf)).await;
        assert_eq!(self.hear().await, Packet::PingResp);
    }
}

fn bodies(hub: &Hub) -> Vec<Bytes> {
    let request = ReaderRequest {
        group: "$Default".into(),
        name: "r".into(),
        epoch: None,
        position: Position::Earliest,
        wake: Arc::default(),
    };
    let mut reader = Reader::open(Arc::clone(&hub.endpoint().partitions[0]), request).unwrap();
    std::iter::from_fn(|| reader.next().unwrap())
        .map(|record| record.event.sections)
        .collect()
}

fn message(id: &str) -> C2dMessage {
    C2dMessage {
        message_id: Some(id.into()),
        to: "/devices/d/messages/devicebound".into(),
        correlation_id: None,
        user_id: None,
        content_type: None,
        content_encoding: None,
        expires: None,
        properties: vec![("k".into(), "v".into())],
        body: Bytes::from(format!("body of {id}")),
    }
}

fn received(hub: &Hub) -> Vec<Received> {
    hub.receipts
        .after(0, 1000)
        .into_iter()
        .map(|receipt| receipt.what)
        .collect()
}
