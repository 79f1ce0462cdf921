//! A hub to test with, and the least HTTP client that can ask its faces.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    hub::{Hub, HubSettings},
    policy::Policies,
    sas::{KeyForm, SharedKey, sign},
};

/// Key of both policies.
pub(crate) const KEY: &str = "c2VjcmV0";

/// A hub on `hub.example` with the policies `owner` (all rights) and `service` (ServiceConnect).
pub(crate) fn settings() -> HubSettings {
    let policy = |text: String| text.parse().unwrap();
    HubSettings {
        name: "hub".into(),
        hosts: vec!["hub.example".into()],
        event_hub: "telemetry".into(),
        partitions: 4,
        consumer_groups: vec!["thingworx".into()],
        retention: 100,
        policies: Policies(vec![
            policy(format!("owner:{KEY}:all")),
            policy(format!("service:{KEY}:ServiceConnect")),
        ]),
        redirect: Vec::new(),
        routes: Vec::new(),
        feedback_every: Duration::from_millis(50),
    }
}

pub(crate) fn hub() -> Arc<Hub> {
    Hub::new(settings())
}

/// A good signature for the whole hub.
pub(crate) fn token(policy: &str) -> String {
    let key = SharedKey::new(KEY).unwrap();
    sign(
        "hub.example",
        &key,
        KeyForm::Decoded,
        i64::from(i32::MAX),
        Some(policy),
    )
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// JSON, or the text if it is none.
    pub(crate) body: Value,
}

/// One request on a connection of its own.
pub(crate) async fn ask<S>(
    mut stream: S,
    request: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut text = format!("{request} HTTP/1.1\r\nhost: hub.example\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!(
        "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    // A server that refuses a long body may close before it has all of it.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    read(&String::from_utf8(answer).unwrap())
}

fn read(text: &str) -> Answer {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no HTTP: {text}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    Answer {
        status: status.parse().unwrap(),
        headers: lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.to_lowercase(), value.to_owned())
            })
            .collect(),
        body: serde_json::from_str(body).unwrap_or_else(|_| body.into()),
    }
}
