//! Hub → platform: each event becomes one request, at once.

use std::{error::Error, path::PathBuf, time::Duration};

use alwayson::{BaseType, Field, InfoTable, Node, Request, Value};
use azure_core_amqp::{
    AmqpTransport,
    message::{AmqpAnnotationKey, AmqpMessageBody},
};
use azure_messaging_eventhubs::{
    ConsumerClient, OpenReceiverOptions, StartLocation, StartPosition,
    models::{AmqpMessage, AmqpValue, ReceivedEventData},
};
use clap::Args;
use futures::{StreamExt as _, future::try_join_all};
use serde_json::{Map, Value as Json};

/// Events that the hub may send ahead: the connector's own number.
const PREFETCH: u32 = 1000;
/// The connector's own time-out of a request.
const ANSWER: Duration = Duration::from_secs(4);

/// Where events are.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Events {
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
}

impl Events {
    /// Carries events to a node; without one they are read and dropped.
    ///
    /// # Errors
    /// Whatever ends it.
    pub async fn carry(&self, node: Option<&Node>) -> Result<(), Box<dyn Error>> {
        let string = std::fs::read_to_string(&self.events)?;
        let readers = (0..self.partitions).map(|partition| self.read(&string, partition, node));
        try_join_all(readers).await?;
        Ok(())
    }

    async fn read(
        &self,
        string: &str,
        partition: u16,
        node: Option<&Node>,
    ) -> Result<(), Box<dyn Error>> {
        let mut builder = ConsumerClient::builder()
            .with_consumer_group(self.group.clone())
            .with_transport(AmqpTransport::Tcp);
        if let Some(endpoint) = &self.endpoint {
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
