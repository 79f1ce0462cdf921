//! The least that can stand between hub and platform: each event becomes one request, at once.
//!
//! It uses the libraries that the connector uses on either side and nothing of the connector: no lanes, no
//! order, no types of the Thing's own, no checkpoint. What a connector's latency is beyond this one's is
//! what the connector adds.

use std::{
    error::Error,
    num::NonZeroU8,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use alwayson::{
    BaseType, Claim, Credentials, Field, InfoTable, Link, Node, NodeSettings, Request, Timings,
    TlsSettings, Value,
};
use azure_core_amqp::{
    AmqpTransport,
    message::{AmqpAnnotationKey, AmqpMessageBody},
};
use azure_messaging_eventhubs::{
    ConsumerClient, OpenReceiverOptions, StartLocation, StartPosition,
    models::{AmqpMessage, AmqpValue, ReceivedEventData},
};
use clap::Parser;
use futures::StreamExt as _;
use serde_json::{Map, Value as Json};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Events that the hub may send ahead: the connector's own number.
const PREFETCH: u32 = 1000;
/// The connector's own time-out of a request.
const ANSWER: Duration = Duration::from_secs(4);
/// Logging in to the platform, with tries again.
const CONNECT: Duration = Duration::from_secs(20);

/// Carries events to the platform with nothing between.
#[derive(Debug, Parser)]
struct Args {
    /// File with the Event Hubs-compatible connection string.
    #[arg(long)]
    events: PathBuf,
    /// Another address of it, such as `amqp://127.0.0.1:5672`.
    #[arg(long)]
    endpoint: Option<String>,
    /// Consumer group.
    #[arg(long)]
    group: String,
    /// How many partitions there are.
    #[arg(long)]
    partitions: u16,
    /// The platform's AlwaysOn URL; without it events are read and dropped.
    #[arg(long, requires = "app_key")]
    platform: Option<Url>,
    /// File with the application key.
    #[arg(long)]
    app_key: Option<PathBuf>,
    /// Certificates of the authority to trust for the platform (PEM).
    #[arg(long)]
    ca: Option<PathBuf>,
}

// As the connector has them.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match relay(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Key(String);

impl Credentials for Key {
    fn claims(&self) -> Result<Vec<Claim>, String> {
        Ok(vec![Claim {
            name: "appKey".to_owned(),
            value: self.0.trim().to_owned(),
        }])
    }
}

async fn relay(args: Args) -> Result<(), Box<dyn Error>> {
    let string = std::fs::read_to_string(&args.events)?;
    let node = match (&args.platform, &args.app_key) {
        (Some(url), Some(key)) => Some(connect(&args, url, key).await?),
        _ => None,
    };
    let readers =
        (0..args.partitions).map(|partition| read(&args, &string, partition, node.as_ref()));
    futures::future::try_join_all(readers).await?;
    Ok(())
}

async fn connect(args: &Args, url: &Url, key: &Path) -> Result<Node, Box<dyn Error>> {
    let key = Key(std::fs::read_to_string(key)?);
    let ca = args.ca.as_ref().map(std::fs::read).transpose()?;
    let settings = NodeSettings {
        name: "platform".into(),
        url: url.clone(),
        tls: TlsSettings {
            ca,
            server_name: None,
        },
        pipes: NonZeroU8::MIN,
        timings: Timings::default(),
    };
    // Nothing is bound, so the platform asks for nothing.
    let (requests, _none) = mpsc::channel(1);
    let node = Node::start(settings, Arc::new(key), requests, CancellationToken::new());
    let mut state = node.state();
    let up = state.wait_for(|state| state.link == Link::Up);
    timeout(CONNECT, up).await??;
    Ok(node)
}

async fn read(
    args: &Args,
    string: &str,
    partition: u16,
    node: Option<&Node>,
) -> Result<(), Box<dyn Error>> {
    let mut builder = ConsumerClient::builder()
        .with_consumer_group(args.group.clone())
        .with_transport(AmqpTransport::Tcp);
    if let Some(endpoint) = &args.endpoint {
        builder = builder.with_custom_endpoint(endpoint.clone());
    }
    let client = builder.open_with_connection_string(string, None).await?;
    let options = OpenReceiverOptions {
        prefetch: Some(PREFETCH),
        start_position: Some(StartPosition {
            location: match node {
                Some(_) => StartLocation::Latest,
                None => StartLocation::Earliest,
            },
            inclusive: false,
        }),
        ..OpenReceiverOptions::default()
    };
    let receiver = client
        .open_receiver_on_partition(partition.to_string(), Some(options))
        .await?;
    let mut events = receiver.stream_events();
    while let Some(event) = events.next().await {
        let event = event?;
        if let Some(node) = node
            && let Some(request) = request(&event)
        {
            let node = node.clone();
            // Answers are awaited, so that as much is in flight as with a connector, but nothing waits
            // for them.
            tokio::spawn(async move { node.request(&request, ANSWER).await.map(drop) });
        }
    }
    Err("the stream has ended".into())
}

fn request(event: &ReceivedEventData) -> Option<Request> {
    let message = event.raw_amqp_message();
    let device = device(message)?;
    let AmqpMessageBody::Binary(sections) = &message.body else {
        return None;
    };
    let fields: Map<String, Json> = serde_json::from_slice(sections.first()?).ok()?;
    let mut table = InfoTable::new([
        Field::new("name", BaseType::String),
        Field::new("value", BaseType::Variant),
        Field::new("time", BaseType::DateTime),
        Field::new("quality", BaseType::String),
    ]);
    for (name, json) in &fields {
        let value = match json {
            Json::Bool(flag) => Value::Boolean(*flag),
            Json::String(text) => Value::string(text.as_str()),
            Json::Number(number) if name == "count" => Value::Long(number.as_i64()?),
            Json::Number(number) => Value::Number(number.as_f64()?),
            Json::Null | Json::Array(_) | Json::Object(_) => continue,
        };
        let cells = [
            Value::string(name.as_str()),
            Value::Variant(Box::new(value)),
            Value::DateTime(0),
            Value::string("GOOD"),
        ];
        table.push(&cells).ok()?;
    }
    let params = InfoTable::one_row([("values", Value::InfoTable(table))]);
    Some(Request::call(
        device,
        "UpdateSubscribedPropertyValues",
        Some(params),
    ))
}

fn device(message: &AmqpMessage) -> Option<&str> {
    let annotations = message.message_annotations.as_ref()?;
    annotations.0.iter().find_map(|(key, value)| {
        let AmqpAnnotationKey::Symbol(name) = key else {
            return None;
        };
        match value {
            AmqpValue::String(device) if name.0 == "iothub-connection-device-id" => {
                Some(device.as_str())
            }
            _ => None,
        }
    })
}
