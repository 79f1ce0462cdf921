//! The control face as tests use it.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    c2d::{C2dMessage, MAX_DEPTH},
    fault::FaceName,
    hub::{Hub, MethodRequest, Subscription},
    identity::Identity,
    log::{Epoch, NewEvent, Position, Reader, ReaderRequest},
    operation::Operation,
    probe::{Answer, ask, hub},
    receipt::Received,
    refusal::Refusal,
};

struct Face {
    hub: Arc<Hub>,
    address: std::net::SocketAddr,
}

impl Face {
    async fn new() -> Self {
        let hub = hub();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = super::router(Arc::clone(&hub));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { hub, address }
    }

    async fn ask(&self, request: &str, body: Option<Value>) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        ask(stream, request, &[], body.as_ref()).await
    }
}

#[tokio::test]
async fn registering_again_gives_the_same_keys() {
    let face = Face::new().await;
    let first = face
        .ask("POST /devices", Some(json!({"devices": ["a", "b"]})))
        .await;
    assert_eq!(first.status, 200);
    assert_eq!(first.body["devices"][1]["deviceId"], "b");
    let second = face
        .ask("POST /devices", Some(json!({"devices": ["b", "c"]})))
        .await;
    assert_eq!(second.body["devices"][0], first.body["devices"][1]);
    let identity = Identity::device("b").unwrap();
    let key = face.hub.get(&identity).unwrap().keys.primary;
    assert_eq!(second.body["devices"][0]["key"], key.reveal());

    let bad = face
        .ask("POST /devices", Some(json!({"devices": ["d", "not one"]})))
        .await;
    assert_eq!(bad.status, 400);
    let listed = face.ask("GET /devices", None).await;
    let row = json!({"deviceId": "a", "connected": false, "c2dDepth": 0, "telemetry": 0});
    assert_eq!(
        listed.body["devices"].as_array().unwrap().len(),
        3,
        "none of a bad list is made"
    );
    assert_eq!(listed.body["devices"][0], row);
}

#[tokio::test]
async fn a_fail_over_gives_the_endpoint_another_name_and_loses_its_events() {
    let face = Face::new().await;
    face.ask("POST /devices", Some(json!({"devices": ["a"]})))
        .await;
    let origin = |face: &Face| {
        let identity = Identity::device("a").unwrap();
        face.hub.origin(&identity, "Telemetry").unwrap()
    };
    let event = || NewEvent {
        origin: origin(&face),
        sections: bytes::Bytes::new(),
    };
    face.hub.append(event());
    let before = face.ask("GET /partitions", None).await.body;
    assert_eq!(before["entity"], "telemetry");
    let reader = face.hub.connect(FaceName::EventsAmqp);
    let device = face.hub.connect(FaceName::Mqtt);

    let done = face
        .ask("POST /faults", Some(json!({"fault": "fail-over"})))
        .await;
    assert_eq!(done.status, 204);
    assert!(reader.dropped.is_cancelled() && !device.dropped.is_cancelled());
    let after = face.ask("GET /partitions", None).await.body;
    assert_eq!(after["entity"], "telemetry-after-1");
    let all = after["partitions"].as_array().unwrap();
    assert!(all.iter().all(|one| one["empty"] == true));
    let (_, last) = face.hub.append(event());
    assert_eq!(last.sequence, 0, "positions begin anew");
}

#[tokio::test]
async fn partitions_show_what_they_hold_and_who_reads() {
    let face = Face::new().await;
    face.ask("POST /devices", Some(json!({"devices": ["a"]})))
        .await;
    let identity = Identity::device("a").unwrap();
    let event = NewEvent {
        origin: face.hub.origin(&identity, "Telemetry").unwrap(),
        sections: bytes::Bytes::new(),
    };
    let (id, last) = face.hub.append(event);
    let epoch: Epoch = 3;
    let _reader = Reader::open(
        Arc::clone(&face.hub.endpoint().partitions[usize::from(id)]),
        ReaderRequest {
            group: "thingworx".into(),
            name: "r".into(),
            epoch: Some(epoch),
            position: Position::Earliest,
            wake: Arc::default(),
        },
    )
    .unwrap();
    let shown = face.ask("GET /partitions", None).await;
    assert_eq!(shown.body["partitions"].as_array().unwrap().len(), 4);
    assert_eq!(
        shown.body["partitions"][usize::from(id)],
        json!({
            "id": id.to_string(), "begin": 0, "empty": false,
            "last": {"sequence": 0, "offset": 0, "enqueued": last.enqueued},
            "readers": [{"group": "thingworx", "name": "r", "epoch": 3, "next": 0}],
        })
    );
    let other = &shown.body["partitions"][usize::from((id + 1) % 4)];
    assert_eq!(
        (&other["last"], &other["empty"]),
        (&Value::Null, &json!(true))
    );
}

#[tokio::test]
async fn faults_are_switched_on_and_typing_errors_refused() {
    let face = Face::new().await;
    let fault = json!({"fault": "reject-tokens", "seconds": 60});
    assert_eq!(face.ask("POST /faults", Some(fault)).await.status, 204);
    assert!(face.hub.faults.rejects_tokens());
    let wrong = json!({"fault": "reject-tokens", "secnods": 60});
    let answer = face.ask("POST /faults", Some(wrong)).await;
    assert_eq!(answer.status, 422);
    assert!(
        answer.body.as_str().unwrap().contains("secnods"),
        "{answer:?}"
    );
    face.ask("POST /faults", Some(json!({"fault": "clear"})))
        .await;
    assert!(!face.hub.faults.rejects_tokens());
}

#[tokio::test]
async fn receipts_come_in_pages() {
    let face = Face::new().await;
    face.ask("POST /devices", Some(json!({"devices": ["a"]})))
        .await;
    let identity = Identity::device("a").unwrap();
    let session = face.hub.start_session(&identity, true).unwrap();
    session.subscribe(Subscription::Methods);
    for name in ["one", "two", "three"] {
        session.note(Received::Method {
            rid: "1".into(),
            name: name.into(),
            payload: json!(1),
        });
    }
    let page = face.ask("GET /receipts?after=1&limit=1", None).await;
    assert_eq!(page.body["next"], 2);
    assert_eq!(page.body["receipts"][0]["name"], "two");
    assert_eq!(page.body["receipts"][0]["kind"], "method");
    assert_eq!(page.body["receipts"][0]["device"], "a");
    let rest = face.ask("GET /receipts?after=2", None).await;
    assert_eq!(
        (
            &rest.body["next"],
            rest.body["receipts"].as_array().unwrap().len()
        ),
        (&json!(3), 1)
    );
    let none = face.ask("GET /receipts?after=3", None).await;
    assert_eq!(none.body, json!({"receipts": [], "next": 3}));
    let devices = face.ask("GET /devices", None).await;
    assert_eq!(devices.body["devices"][0]["connected"], true);
}

#[tokio::test]
async fn connections_are_counted_per_face() {
    let face = Face::new().await;
    let _one = face.hub.connect(FaceName::EventsAmqp);
    let shown = face.ask("GET /connections", None).await;
    assert_eq!(
        shown.body,
        json!({"mqtt": 0, "hub-amqp": 0, "events-amqp": 1, "https": 0})
    );
    assert_eq!(face.ask("GET /health", None).await.status, 200);
}

#[tokio::test]
async fn a_load_is_in_the_stream_when_it_is_answered() {
    let face = Face::new().await;
    let load = json!({"events": 30, "devices": 3, "rate": 100_000});
    let done = face.ask("POST /load", Some(load)).await;
    assert_eq!(
        (done.status, &done.body["appended"]),
        (200, &Value::from(30))
    );
    let endpoint = face.hub.endpoint();
    let stored: usize = endpoint.partitions.iter().map(|p| p.kept().len()).sum();
    assert_eq!(stored, 30);
    let refused = face.ask("POST /load", Some(json!({"events": 1, "devices": 0})));
    assert_eq!(refused.await.status, 400);
}

#[tokio::test]
async fn a_fleet_answers_methods_fetches_messages_and_leaves() {
    let face = Face::new().await;
    let crew = json!({"devices": 3, "prefix": "pump-", "answerMs": 1, "upToMs": 5, "status": 207});
    let come = face.ask("POST /fleet", Some(crew)).await;
    assert_eq!(come.body, json!({"connected": 3}), "{come:?}");
    let silent = json!({"devices": 1, "prefix": "silent-", "fetch": false});
    face.ask("POST /fleet", Some(silent)).await;

    let call = |seconds| MethodRequest {
        name: "echo".into(),
        payload: json!([1]),
        response_timeout: Duration::from_secs(seconds),
        connect_timeout: Duration::from_secs(5),
    };
    let pump = Identity::device("pump-2").unwrap();
    let answer = face.hub.invoke(&pump, call(5)).await.unwrap();
    assert_eq!((answer.status, answer.payload), (207, json!([1])));
    let silent = Identity::device("silent-0").unwrap();
    let refused = face.hub.invoke(&silent, call(0)).await;
    assert_eq!(refused, Err(Refusal::DeviceTimeout));

    let message = || C2dMessage {
        message_id: Some("m".into()),
        to: String::new(),
        correlation_id: None,
        user_id: None,
        content_type: None,
        content_encoding: None,
        expires: None,
        properties: Vec::new(),
        body: bytes::Bytes::new(),
    };
    for _ in 0..MAX_DEPTH {
        face.hub.send_c2d(&silent, message()).unwrap();
        face.hub.send_c2d(&pump, message()).unwrap();
        while face.hub.get(&pump).unwrap().c2d_depth > 0 {
            tokio::task::yield_now().await;
        }
    }
    let full = face.hub.send_c2d(&silent, message());
    assert_eq!(full, Err(Refusal::QueueFull("silent-0".into())));

    face.ask("DELETE /fleet", None).await;
    while face.hub.get(&pump).unwrap().connected {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn limits_are_set_lifted_and_counted() {
    let face = Face::new().await;
    let limits = json!({"tier": "S1", "operations": ["queries"], "burstSeconds": 0});
    assert_eq!(face.ask("PUT /limits", Some(limits)).await.status, 204);
    let one = || face.hub.admit(Operation::Queries, 1.0).is_ok();
    assert_eq!((one(), one()), (true, false));
    assert_eq!(face.ask("DELETE /limits", None).await.status, 204);
    assert!(one());
    let counts = face.ask("GET /operations", None).await;
    let queries = json!({"accepted": 2, "refused": 1, "lost": 0});
    assert_eq!(counts.body["queries"], queries, "{counts:?}");
    let nonsense = json!({"tier": "S4"});
    assert_eq!(face.ask("PUT /limits", Some(nonsense)).await.status, 422);
}
