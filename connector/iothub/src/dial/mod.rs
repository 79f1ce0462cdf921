//! A stream of bytes to one of the hub's hosts: TCP, straight on or through a proxy; TLS; and WebSockets
//! where AMQP must travel in them.

pub(crate) mod relay;
mod web_socket;

use std::{
    fmt::{self, Display},
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::client::legacy::connect::{HttpConnector, proxy::Tunnel};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tower_service::Service as _;

use crate::{
    HubError, HubTls,
    refusal::words,
    way::{Proxy, Transport, Way},
};

/// TCP, and TLS, and each step more. A hub answers in tens of milliseconds; more is a network that will
/// not.
const DIAL: Duration = Duration::from_secs(5);
/// AMQP over TLS.
const AMQPS: u16 = 5671;
/// WebSockets over TLS.
const HTTPS: u16 = 443;

/// Which of the hub's hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// The hub's own.
    Hub,
    /// The built-in endpoint's.
    Events,
}

impl Service {
    /// Where it takes WebSockets. Sources: `azure-iot-amqp-base` (azure-iot-sdk-node); `@azure/event-hubs`.
    fn path(self) -> &'static str {
        match self {
            Self::Hub => "/$iothub/websocket",
            Self::Events => "/$servicebus/websocket/",
        }
    }
}

/// Where to connect to.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    /// Host name, which the certificate must show.
    pub(crate) host: String,
    /// `host:port` instead of the host at the transport's port.
    pub(crate) address: Option<String>,
    pub(crate) service: Service,
}

/// Connects. Each step has a time-out.
pub(crate) async fn dial(
    to: &Destination,
    tls: &HubTls,
    Way { transport, proxy }: &Way,
) -> Result<Stream, HubError> {
    let Destination {
        host,
        address,
        service,
    } = to;
    let port = match transport {
        Transport::Amqp => AMQPS,
        Transport::WebSockets => HTTPS,
    };
    let address = address.clone().unwrap_or_else(|| format!("{host}:{port}"));
    let what = match proxy {
        Some(proxy) => format!("connecting to the hub at {address} through {proxy}"),
        None => format!("connecting to the hub at {address}"),
    };
    let failed = |cause: &dyn Display| HubError::Transport {
        what: what.clone(),
        cause: words(&cause.to_string()),
    };
    let name = ServerName::try_from(host.clone()).map_err(|_| HubError::Settings {
        what: format!("host name {host:?} is no host name"),
    })?;
    let tls = TlsConnector::from(tls.client()?);
    let stream = timeout(DIAL, tcp(&address, proxy.as_ref()))
        .await
        .map_err(|_| failed(&"no answer in time"))?
        .map_err(|error| failed(&error))?;
    let stream = timeout(DIAL, tls.connect(name, stream))
        .await
        .map_err(|_| failed(&"no TLS in time"))?
        .map_err(|error| failed(&error))?;
    match transport {
        Transport::Amqp => Ok(Stream(Box::new(stream))),
        Transport::WebSockets => {
            let opening = web_socket::open(host, service.path(), stream);
            let opened = timeout(DIAL, opening)
                .await
                .map_err(|_| failed(&"no WebSocket in time"))?;
            Ok(Stream(Box::new(opened.map_err(|error| failed(&error))?)))
        }
    }
}

async fn tcp(address: &str, proxy: Option<&Proxy>) -> io::Result<TcpStream> {
    let Some(proxy) = proxy else {
        let stream = TcpStream::connect(address).await?;
        // Small frames must not wait for each other's acknowledgement.
        stream.set_nodelay(true)?;
        return Ok(stream);
    };
    let proxy: Uri = proxy.url().parse().map_err(io::Error::other)?;
    let to = Uri::builder()
        .scheme("https")
        .authority(address)
        .path_and_query("/")
        .build()
        .map_err(io::Error::other)?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let stream = Tunnel::new(proxy, connector).call(to).await;
    Ok(stream.map_err(io::Error::other)?.into_inner())
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// A connected stream, whatever it is made of.
pub(crate) struct Stream(Box<dyn Io>);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
