//! Bytes in the binary messages of a WebSocket (OASIS, "AMQP over WebSocket Binding").

use std::io;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, future::ready};
use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest, http::header::SEC_WEBSOCKET_PROTOCOL},
};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

/// What Microsoft's SDKs ask for.
const PROTOCOL: HeaderValue = HeaderValue::from_static("AMQPWSB10");

/// Asks for a WebSocket over a connected stream.
pub(super) async fn open<S>(
    host: &str,
    path: &str,
    stream: S,
) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<S>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut request = format!("wss://{host}{path}")
        .into_client_request()
        .map_err(io::Error::other)?;
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
    let (socket, _) = client_async(request, stream)
        .await
        .map_err(io::Error::other)?;
    let (sink, messages) = socket.split();
    // Pings are answered by the socket itself; a close ends the messages.
    let bytes = messages.filter_map(|message| {
        ready(match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    let sink = sink
        .sink_map_err(io::Error::other)
        .with(|bytes: Bytes| ready(Ok::<_, io::Error>(Message::Binary(bytes))));
    let writer = SinkWriter::new(CopyToBytes::new(sink));
    Ok(tokio::io::join(StreamReader::new(bytes), writer))
}
