//! The REST face as a client sees it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use crate::{
    c2d::C2dMessage,
    fault::{FaceName, Fault},
    hub::{Hub, Subscription, ToDevice},
    identity::Identity,
    operation::Operation,
    probe::{Answer, ask, hub, token},
};

use super::{Rest, router, serve};

struct Face {
    hub: Arc<Hub>,
    rest: Rest,
}

impl Face {
    /// To be called within a runtime.
    fn new() -> Self {
        let hub = hub();
        let (rest, server) = router(&hub);
        tokio::spawn(server);
        Self { hub, rest }
    }

    fn connect(&self) -> DuplexStream {
        let (near, far) = duplex(1024);
        let connection = self.hub.connect(FaceName::Https);
        tokio::spawn(serve(
            self.rest.clone(),
            Arc::clone(&self.hub),
            far,
            connection,
        ));
        near
    }

    /// `METHOD /path`; signed by `owner`.
    async fn ask(&self, what: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let token = token("owner");
        let headers: Vec<_> = [("authorization", &*token)]
            .into_iter()
            .chain(headers.iter().copied())
            .collect();
        let request = format!("{what}?api-version=2021-04-12");
        let body = Some(&body).filter(|body| !body.is_null());
        ask(self.connect(), &request, &headers, body).await
    }

    async fn register(&self, device: &str) -> Identity {
        let answer = self
            .ask(&format!("PUT /devices/{device}"), &[], json!({}))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        Identity::device(device).unwrap()
    }
}

fn assert_refused(answer: &Answer, status: u16, name: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.headers["iothub-errorcode"], name);
    let message = answer.body["Message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("ErrorCode:{name};")),
        "{message}"
    );
    let exception = answer.body["ExceptionMessage"].as_str().unwrap();
    assert!(exception.starts_with("Tracking ID:"), "{exception}");
}

#[tokio::test]
async fn without_an_api_version_nothing_is_done() {
    let face = Face::new();
    let token = token("owner");
    let headers = [("authorization", &*token)];
    let answer = ask(face.connect(), "GET /devices", &headers, None).await;
    assert_refused(&answer, 400, "ArgumentInvalid");
}

#[tokio::test]
async fn a_bad_token_is_refused_whatever_is_asked() {
    let face = Face::new();
    let service = token("service");
    let forged = service.replace("sig=", "sig=AA");
    for (what, token) in [
        ("GET /devices/d", ""),
        ("GET /twins/d", "Bearer abc"),
        ("POST /twins/d/methods", &forged),
        // A good token of a policy that lacks the right.
        ("GET /devices/d", &service),
        ("PUT /devices/d", &service),
    ] {
        let request = format!("{what}?api-version=2021-04-12");
        let answer = ask(face.connect(), &request, &[("authorization", token)], None).await;
        assert_refused(&answer, 401, "IotHubUnauthorizedAccess");
    }
}

#[tokio::test]
async fn devices_are_made_changed_and_removed_by_their_etags() {
    let face = Face::new();
    let keys = json!({"primaryKey": "AAAA", "secondaryKey": "BBBB"});
    let body = json!({
        "deviceId": "d#1", "status": "disabled",
        "authentication": {"type": "sas", "symmetricKey": keys},
    });
    let made = face.ask("PUT /devices/d%231", &[], body.clone()).await;
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(made.body["deviceId"], "d#1");
    assert_eq!(made.body["status"], "disabled");
    assert_eq!(made.body["connectionState"], "Disconnected");
    assert_eq!(made.body["authentication"]["symmetricKey"], keys);
    let etag = format!("\"{}\"", made.body["etag"].as_str().unwrap());
    assert_eq!(made.headers["etag"], etag);

    let again = face.ask("PUT /devices/d%231", &[], body).await;
    assert_refused(&again, 409, "DeviceAlreadyExists");
    let enable = json!({"status": "enabled"});
    let changed = face
        .ask("PUT /devices/d%231", &[("if-match", &etag)], enable.clone())
        .await;
    assert_eq!(changed.body["status"], "enabled");
    assert_eq!(
        changed.body["authentication"]["symmetricKey"], keys,
        "keys stay"
    );
    let late = face
        .ask("PUT /devices/d%231", &[("if-match", &etag)], enable)
        .await;
    assert_refused(&late, 412, "PreconditionFailed");

    let listed = face.ask("GET /devices", &[], Value::Null).await;
    assert_eq!(listed.body.as_array().unwrap().len(), 1);
    let removed = face
        .ask("DELETE /devices/d%231", &[("if-match", "*")], Value::Null)
        .await;
    assert_eq!(removed.status, 204);
    let gone = face.ask("GET /devices/d%231", &[], Value::Null).await;
    assert_refused(&gone, 404, "DeviceNotFound");
}

#[tokio::test]
async fn identities_that_cannot_be_are_refused() {
    let face = Face::new();
    for (path, body) in [
        ("/devices/a%20b", json!({})),
        ("/devices/a", json!({"deviceId": "b"})),
        (
            "/devices/a",
            json!({"authentication": {"type": "selfSigned"}}),
        ),
        (
            "/devices/a",
            json!({"authentication": {"symmetricKey": {"primaryKey": "AAAA"}}}),
        ),
        ("/devices/a", json!({"status": "asleep"})),
        ("/devices/a", json!([])),
    ] {
        let answer = face.ask(&format!("PUT {path}"), &[], body).await;
        assert_refused(&answer, 400, "ArgumentInvalid");
    }
    assert!(face.hub.list(None, 9).is_empty());
}

#[tokio::test]
async fn modules_belong_to_devices() {
    let face = Face::new();
    let orphan = face.ask("PUT /devices/d/modules/m", &[], json!({})).await;
    assert_refused(&orphan, 404, "DeviceNotFound");
    face.register("d").await;
    let body = json!({"deviceId": "d", "moduleId": "m"});
    let made = face.ask("PUT /devices/d/modules/m", &[], body).await;
    assert_eq!(made.body["moduleId"], "m");
    let listed = face.ask("GET /devices/d/modules", &[], Value::Null).await;
    assert_eq!(listed.body[0]["moduleId"], "m");
    let other = face.ask("GET /devices/d/modules/n", &[], Value::Null).await;
    assert_refused(&other, 404, "ModuleNotFound");
}

#[tokio::test]
async fn a_method_gets_what_the_device_answers() {
    let face = Face::new();
    let identity = face.register("d").await;
    let mut session = face.hub.start_session(&identity, true).unwrap();
    session.subscribe(Subscription::Methods);
    let device = tokio::spawn(async move {
        let Some(ToDevice::Method { rid, name, payload }) = session.mailbox.recv().await else {
            panic!("no method");
        };
        assert_eq!((&*name, payload), ("echo", json!({"a": 1})));
        assert!(session.answer_method(rid, 207, &Bytes::from_static(b"[true]")));
    });
    let call = json!({"methodName": "echo", "payload": {"a": 1}, "responseTimeoutInSeconds": 5});
    let answer = face.ask("POST /twins/d/methods", &[], call).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body, json!({"status": 207, "payload": [true]}));
    device.await.unwrap();
}

#[tokio::test]
async fn failed_calls_carry_the_hubs_codes() {
    let face = Face::new();
    let call = |timeout: u64| json!({"methodName": "m", "responseTimeoutInSeconds": timeout});
    let unknown = face.ask("POST /twins/d/methods", &[], call(30)).await;
    assert_refused(&unknown, 404, "DeviceNotFound");
    face.register("d").await;
    let module = face
        .ask("POST /twins/d/modules/m/methods", &[], call(30))
        .await;
    assert_refused(&module, 404, "ModuleNotFound");
    let impatient = face.ask("POST /twins/d/methods", &[], call(4)).await;
    assert_refused(&impatient, 400, "ArgumentInvalid");

    let offline = face.ask("POST /twins/d/methods", &[], call(30)).await;
    assert_eq!(offline.status, 404);
    assert_eq!(offline.headers["iothub-errorcode"], "DeviceNotOnline");
    assert_eq!(offline.body["ExceptionMessage"], "");
    let message = offline.body["Message"].as_str().unwrap();
    let message: Value = serde_json::from_str(message).unwrap();
    assert_eq!(message["errorCode"], 404_103);
    assert_eq!(message["info"]["timeout"], "00:00:00");
}

#[tokio::test]
async fn throttled_calls_say_when_to_come_back() {
    let face = Face::new();
    face.register("d").await;
    let call = json!({"methodName": "m"});
    for (retry_after, header) in [(Some(7), Some("7")), (None, None)] {
        face.hub.inject(&Fault::ThrottleMethods {
            seconds: 60.0,
            retry_after,
        });
        let answer = face.ask("POST /twins/d/methods", &[], call.clone()).await;
        assert_refused(&answer, 429, "ThrottlingException");
        assert_eq!(
            answer.headers.get("retry-after").map(String::as_str),
            header
        );
    }
}

#[tokio::test]
async fn payloads_have_a_limit() {
    let face = Face::new();
    face.register("d").await;
    let call = |length| json!({"methodName": "m", "payload": "x".repeat(length)});
    let fits = face
        .ask("POST /twins/d/methods", &[], call(128 * 1024 - 2))
        .await;
    assert_eq!(fits.headers["iothub-errorcode"], "DeviceNotOnline");
    let larger = face
        .ask("POST /twins/d/methods", &[], call(128 * 1024 - 1))
        .await;
    assert_refused(&larger, 413, "MessageTooLarge");
}

#[tokio::test]
async fn twins_merge_and_have_versions() {
    let face = Face::new();
    face.register("d").await;
    let patch = json!({"tags": {"site": "a"}, "properties": {"desired": {"rate": 5, "old": null}}});
    let patched = face
        .ask("PATCH /twins/d", &[("if-match", "\"*\"")], patch.clone())
        .await;
    assert_eq!(patched.status, 200, "{patched:?}");
    let read = face.ask("GET /twins/d", &[], Value::Null).await;
    assert_eq!(read.body["deviceId"], "d");
    assert_eq!(read.body["tags"], json!({"site": "a"}));
    assert_eq!(
        read.body["properties"]["desired"],
        json!({"rate": 5, "$version": 2})
    );
    assert_eq!(read.body["properties"]["reported"], json!({"$version": 1}));
    let etag = format!("\"{}\"", read.body["etag"].as_str().unwrap());
    assert_eq!(read.headers["etag"], etag);
    let second = face
        .ask("PATCH /twins/d", &[("if-match", &etag)], patch.clone())
        .await;
    assert_eq!(second.body["properties"]["desired"]["$version"], 3);
    let late = face
        .ask("PATCH /twins/d", &[("if-match", &etag)], patch)
        .await;
    assert_refused(&late, 412, "PreconditionFailed");
    let bad = face.ask("PATCH /twins/d", &[], json!({"tags": 1})).await;
    assert_refused(&bad, 400, "ArgumentInvalid");
}

#[tokio::test]
async fn waiting_messages_can_be_purged() {
    let face = Face::new();
    let identity = face.register("d").await;
    let message = C2dMessage {
        message_id: None,
        to: "/devices/d/messages/devicebound".into(),
        correlation_id: None,
        user_id: None,
        content_type: None,
        content_encoding: None,
        expires: None,
        properties: Vec::new(),
        body: Bytes::new(),
    };
    face.hub.send_c2d(&identity, message).unwrap();
    let waiting = face.ask("GET /devices/d", &[], Value::Null).await;
    assert_eq!(waiting.body["cloudToDeviceMessageCount"], 1);
    let purged = face
        .ask("DELETE /devices/d/commands", &[], Value::Null)
        .await;
    assert_eq!(
        purged.body,
        json!({"totalMessagesPurged": 1, "deviceId": "d", "moduleId": null})
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_not_there() {
    let face = Face::new();
    for what in [
        "POST /jobs/create",
        "POST /devices",
        "PUT /twins/d",
        "GET /twins/d/methods",
    ] {
        let answer = face.ask(what, &[], Value::Null).await;
        assert_eq!(answer.status, 404, "{what}: {answer:?}");
        let message = answer.body["Message"].as_str().unwrap();
        assert!(message.contains("no such operation"), "{what}: {message}");
    }
}

#[tokio::test]
async fn a_fault_cuts_and_another_silences_connections() {
    let face = Face::new();
    let mut idle = face.connect();
    while face.hub.connections.count(FaceName::Https) == 0 {
        tokio::task::yield_now().await;
    }
    face.hub.inject(&Fault::DropConnections {
        face: Some(FaceName::Https),
        device: None,
    });
    assert_eq!(
        idle.read(&mut [0; 1]).await.unwrap(),
        0,
        "the connection is closed"
    );

    face.hub.inject(&Fault::Silence {
        face: FaceName::Https,
        seconds: 60.0,
    });
    let mut silent = face.connect();
    silent
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let mut answered = std::pin::pin!(silent.read_to_end(&mut answer));
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert!(
            futures::poll!(&mut answered).is_pending(),
            "silent faces do not answer"
        );
    }
    face.hub.inject(&Fault::Clear);
    answered.await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400"));
}

#[tokio::test]
async fn an_answer_is_lost_after_the_deed() {
    let face = Face::new();
    face.hub.inject(&Fault::LoseAnswers {
        operation: Operation::Registry,
        seconds: 60.0,
        count: None,
    });
    let mut stream = face.connect();
    let request = format!(
        "PUT /devices/d?api-version=2021-04-12 HTTP/1.1\r\nhost: h\r\nauthorization: {}\r\n\
         content-length: 2\r\n\r\n{{}}",
        token("owner")
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty());
    assert!(face.hub.get(&Identity::device("d").unwrap()).is_ok());
    let count = face.hub.meter.counts()[&Operation::Registry];
    assert_eq!((count.accepted, count.lost), (1, 1));
}

#[tokio::test]
async fn what_does_not_say_how_long_it_is_is_refused() {
    let face = Face::new();
    let mut stream = face.connect();
    stream
        .write_all(b"POST /jobs/v2/j/cancel HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 411 "), "{answer}");
}

#[tokio::test]
async fn a_refusal_waits_for_the_whole_request_and_its_connection_lives_on() {
    let face = Face::new();
    let mut stream = face.connect();
    let head = "POST /devices/query?api-version=2021-04-12 HTTP/1.1\r\nhost: h\r\n\
                content-length: 2\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        {
            let mut answered = std::pin::pin!(stream.read(&mut answer));
            for _ in 0..100 {
                tokio::task::yield_now().await;
                assert!(futures::poll!(&mut answered).is_pending(), "half a request");
            }
        }
        stream.write_all(b"{}").await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401");
        // The rest of the answer: to the end of its JSON object.
        let mut depth = 0;
        loop {
            match stream.read_u8().await.unwrap() {
                b'{' => depth += 1,
                b'}' if depth == 1 => break,
                b'}' => depth -= 1,
                _ => {}
            }
        }
    }
}
