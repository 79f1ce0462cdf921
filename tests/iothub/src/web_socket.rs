//! AMQP in WebSockets, on the port of HTTPS. Each host takes them at a path of its own.
//!
//! Source: OASIS, "AMQP over WebSocket Binding"; path and protocol as Microsoft's SDKs ask for them
//! (azure-iot-sdk-node, `@azure/event-hubs`).

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
            SEC_WEBSOCKET_VERSION, UPGRADE,
        },
    },
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, future::ready};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use crate::{face, fault::FaceName, hub::Hub};

/// What clients may ask for; the first is what Microsoft's SDKs write, the other OASIS's.
const PROTOCOLS: [&str; 2] = ["AMQPWSB10", "amqp"];

/// The hub's own AMQP.
pub(crate) fn of_hub(hub: &Arc<Hub>) -> Router {
    Router::new()
        .route("/$iothub/websocket", get(to_hub))
        .with_state(Arc::clone(hub))
}

/// The Event Hubs-compatible AMQP.
pub(crate) fn of_events(hub: &Arc<Hub>) -> Router {
    Router::new()
        .route("/$servicebus/websocket", get(to_events))
        .route("/$servicebus/websocket/", get(to_events))
        .with_state(Arc::clone(hub))
}

async fn to_hub(State(hub): State<Arc<Hub>>, request: Request) -> Response {
    upgrade(request, async move |stream| {
        let connection = hub.connect(FaceName::HubAmqp);
        face::serve_hub(hub, stream, connection).await;
    })
}

async fn to_events(State(hub): State<Arc<Hub>>, request: Request) -> Response {
    upgrade(request, async move |stream| {
        let connection = hub.connect(FaceName::EventsAmqp);
        face::serve_events(hub, stream, connection).await;
    })
}

/// A stream of the bytes in a WebSocket's binary messages.
type Carried = Box<dyn Io>;

/// What AMQP needs of it.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

fn upgrade<F>(mut request: Request, serve: impl FnOnce(Carried) -> F + Send + 'static) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let answer = match asked(request.headers()) {
        Ok(answer) => answer,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    // Ends with its connection, which the shutdown ends.
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => {
                let stream = TokioIo::new(stream);
                let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
                serve(carried(socket)).await;
            }
            Err(error) => tracing::debug!(%error, "no WebSocket after all"),
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, answer).into_response()
}

/// The headers of the answer to a handshake that is in order.
fn asked(headers: &HeaderMap) -> Result<HeaderMap, &'static str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !text(UPGRADE).is_some_and(|wanted| wanted.eq_ignore_ascii_case("websocket")) {
        return Err("only WebSockets are served here");
    }
    if text(SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err("WebSockets of version 13 are served here");
    }
    let key = text(SEC_WEBSOCKET_KEY).ok_or("Sec-WebSocket-Key is missing")?;
    let offered = text(SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
    let protocol = PROTOCOLS
        .into_iter()
        .find(|known| offered.split(',').any(|one| one.trim() == *known))
        .ok_or("Sec-WebSocket-Protocol must be AMQPWSB10 or amqp")?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| "Sec-WebSocket-Key cannot be used")?;
    Ok(HeaderMap::from_iter([
        (UPGRADE, HeaderValue::from_static("websocket")),
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (SEC_WEBSOCKET_ACCEPT, accept),
        (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol)),
    ]))
}

fn carried<S>(socket: WebSocketStream<S>) -> Carried
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sink, messages) = socket.split();
    let bytes = messages.filter_map(|message| {
        ready(match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            // The socket answers pings itself.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => None,
            Ok(_) => Some(Err(io::Error::other("AMQP travels in binary messages"))),
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    let sink = sink
        .sink_map_err(io::Error::other)
        .with(|bytes: Bytes| ready(Ok::<_, io::Error>(Message::Binary(bytes))));
    let writer = SinkWriter::new(CopyToBytes::new(sink));
    Box::new(tokio::io::join(StreamReader::new(bytes), writer))
}
