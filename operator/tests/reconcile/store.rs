//! What a test does to the store behind the API server's back.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::control_plane::ControlPlane;

impl ControlPlane {
    /// Makes etcd forget all versions before the present one. Whoever keeps up does not notice.
    pub async fn compact(&self) {
        let answer = self.ask("/v3/kv/range", r#"{"key": "AA=="}"#).await;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let revision = answer["header"]["revision"].as_str().unwrap();
        let request = format!(r#"{{"revision": "{revision}"}}"#);
        let answer = self.ask("/v3/kv/compaction", &request).await;
        assert!(answer.contains("header"), "{answer}");
    }

    /// etcd speaks JSON as well.
    async fn ask(&self, path: &str, body: &str) -> String {
        let host = self.store.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}
