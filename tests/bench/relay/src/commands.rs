//! Platform → hub: each request for a device becomes one operation, at once; the answer goes when the hub has
//! accepted, or the device answered.
//!
//! No limits, nothing put together, no repeats, and of types only what JSON has.

use std::{
    collections::BTreeMap,
    error::Error,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use alwayson::{
    BindState, Characteristic, DesiredBinds, Gateway, GroupBind, GroupBindStrategy, Incoming,
    Method, Node, Request, Response, Status, Value, json::to_json,
};
use clap::Args;
use iothub::{
    Ack, C2dMessage, C2dSender, HubAmqpSettings, HubConnectionString, HubError, HubRest,
    HubRestSettings, HubTls, MethodCall, Way,
};
use serde_json::{Map, Value as Json};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Connecting to the hub, and binding.
const PROOF: Duration = Duration::from_secs(20);
/// Messages on their way: the connector's own number.
const MESSAGES: usize = 512;
/// What the connector takes for a request where nothing is set.
const BUDGET: Duration = Duration::from_secs(27);
/// Our own Thing, and its template.
const OWN: (&str, &str) = ("relay", "ConnectionServer");

/// Where commands go.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Commands {
    /// File with the hub's service connection string.
    #[arg(long)]
    service: PathBuf,
    /// The hub Thing, whose requests are served.
    #[arg(long)]
    hub_thing: String,
}

/// The ways to the hub.
struct Hub {
    c2d: C2dSender,
    rest: HubRest,
    /// Messages so far: their ids.
    sent: AtomicU64,
}

impl Commands {
    /// Connects to the hub.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    async fn hub(&self, ca: Option<Vec<u8>>) -> Result<Hub, Box<dyn Error>> {
        let connection: HubConnectionString = std::fs::read_to_string(&self.service)?.parse()?;
        let tls = HubTls {
            ca: ca.map(Into::into),
        };
        let amqp = HubAmqpSettings {
            connection: connection.clone(),
            tls: tls.clone(),
            application_id: OWN.0.into(),
            address: None,
            way: Way::default(),
        };
        let c2d = C2dSender::start(amqp, MESSAGES, CancellationToken::new());
        c2d.prove(PROOF).await?;
        let rest = HubRest::new(HubRestSettings {
            connection,
            tls,
            address: None,
            proxy: None,
        })?;
        Ok(Hub {
            c2d,
            rest,
            sent: AtomicU64::new(0),
        })
    }

    /// Binds the hub Thing on a node and carries what it asks to the hub.
    ///
    /// # Errors
    /// Whatever keeps it from beginning.
    pub async fn carry(
        &self,
        node: &Node,
        mut requests: mpsc::Receiver<Incoming>,
        ca: Option<Vec<u8>>,
    ) -> Result<(), Box<dyn Error>> {
        let hub = Arc::new(self.hub(ca).await?);
        node.bind(self.binds());
        let mut state = node.state();
        let bound = state.wait_for(|state| state.group == BindState::Bound);
        timeout(PROOF, bound).await??;
        while let Some(incoming) = requests.recv().await {
            if incoming.request.entity == self.hub_thing || incoming.request.entity == OWN.0 {
                // The platform's own question after a bind.
                incoming.reply(Response::ok());
                continue;
            }
            let hub = Arc::clone(&hub);
            tokio::spawn(async move {
                let answer = hub.carry_out(&incoming.request).await;
                let failed = |error: HubError| {
                    Response::error(Status::SERVICE_UNAVAILABLE, error.to_string())
                };
                incoming.reply(answer.unwrap_or_else(failed));
            });
        }
        Ok(())
    }

    fn binds(&self) -> DesiredBinds {
        let (name, template) = OWN;
        DesiredBinds {
            gateway: Some(Gateway {
                name: name.into(),
                template: template.into(),
            }),
            group: Some(GroupBind {
                thing: self.hub_thing.clone(),
                routing_group: self.hub_thing.clone(),
                strategy: GroupBindStrategy::Plain,
            }),
            ..DesiredBinds::default()
        }
    }
}

impl Hub {
    async fn carry_out(&self, request: &Request) -> Result<Response, HubError> {
        let params = Json::Object(params(request));
        match (request.method, request.characteristic) {
            (Method::Put, Characteristic::PROPERTIES) => {
                let number = self.sent.fetch_add(1, Ordering::Relaxed);
                let message = C2dMessage {
                    device: request.entity.clone(),
                    message_id: number.to_string(),
                    content_type: Some("application/json".into()),
                    content_encoding: Some("utf-8".into()),
                    body: params.to_string().into(),
                    expiry_ms: None,
                    ack: Ack::None,
                    properties: BTreeMap::new(),
                };
                self.c2d.send(message, Instant::now() + BUDGET).await?;
                Ok(Response::ok())
            }
            (Method::Post, Characteristic::SERVICES) => {
                let call = MethodCall {
                    device: &request.entity,
                    module: None,
                    name: &request.target,
                    payload: &params,
                    response_timeout: BUDGET,
                    connect_timeout: Duration::ZERO,
                };
                let answer = self.rest.invoke(call).await?;
                Ok(Response::result(Value::json(answer.payload.to_string())))
            }
            _ => Ok(Response::error(
                Status::METHOD_NOT_ALLOWED,
                "the relay carries no such thing",
            )),
        }
    }
}

/// The parameters of a request by name.
fn params(request: &Request) -> Map<String, Json> {
    let Some(table) = &request.params else {
        return Map::new();
    };
    let row = table.rows().next().unwrap_or_default();
    let fields = table.fields().zip(&row);
    fields
        .map(|(field, value)| (field.name, to_json(value)))
        .collect()
}
