//! What an operator answers on its port.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::wait::eventually;

/// Probes and metrics of one operator.
#[derive(Debug, Clone, Copy)]
pub struct Probe(pub SocketAddr);

impl Probe {
    /// Waits until the operator says that it knows the cluster.
    pub async fn ready(&self) {
        eventually("an operator becomes ready", async || {
            match self.get("/readyz").await {
                (200, _) => Ok(()),
                (_, why) => Err(why),
            }
        })
        .await;
    }

    /// Waits until the operator says that it leads.
    pub async fn leads(&self, promise: &str) {
        eventually(promise, async || match self.leading().await {
            true => Ok(()),
            false => Err("it does not lead".to_owned()),
        })
        .await;
    }

    /// Whether the operator says that it leads.
    pub async fn leading(&self) -> bool {
        self.metric("leader_election_master_status", "").await > 0.0
    }

    /// The sum of a metric over all its labels that contain `with`. The name is whole, or one of the operator's
    /// own without its prefix.
    pub async fn metric(&self, name: &str, with: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        text.lines()
            .filter(|line| {
                let own = line.strip_prefix("azureiothub_operator_");
                own.unwrap_or(line).starts_with(name)
            })
            .filter(|line| line.contains(with))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            // Not `sum`, whose nothing is less than nothing.
            .fold(0.0, |sum, value| sum + value)
    }

    /// Status and body of an answer; 0 and why if there is none.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = async {
            let mut stream = TcpStream::connect(self.0).await?;
            let request = format!("GET {path} HTTP/1.0\r\nHost: operator\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        match answer.await {
            Ok(text) => {
                let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
                (code.unwrap_or(0), body.unwrap_or_default())
            }
            Err(error) => (0, error.to_string()),
        }
    }
}
