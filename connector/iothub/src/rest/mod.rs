//! The hub's REST face: how it is asked. What it is asked for has a file for each operation.

mod answer;
mod condition;
mod identity;
mod job;
mod method;
mod query;
mod registry;
mod resolver;
mod twin;

use std::{sync::Arc, time::Duration};

use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use serde::Serialize;
use url::Url;

use crate::{
    HubConnectionString, HubError, HubTls, Proxy,
    refusal::{Subject, words},
    token::{Tokens, unix_now},
};
use answer::Answer;
pub use condition::Condition;
pub use job::{
    Job, JobError, JobFilter, JobId, JobKind, JobMethod, JobResult, JobSchedule, JobStatistics,
    JobStatus,
};
pub use method::{MethodAnswer, MethodCall};
pub use query::{Continuation, Page, PageRequest, quoted};
pub use registry::{Device, DeviceStatus, RegistryStatistics};
use resolver::Elsewhere;
pub use twin::{Twin, TwinPatch, TwinProperties, TwinReader};

/// The version that Microsoft's Python service SDK speaks.
const API_VERSION: &str = "2021-04-12";
/// TCP and TLS. A hub answers in tens of milliseconds; more is a network that will not.
const CONNECT: Duration = Duration::from_secs(5);
/// What the hub may take beyond the times that it was given.
const MARGIN: Duration = Duration::from_secs(5);
/// An unused connection is dropped before the hub drops it: a request that meets a closing connection
/// has an unknown outcome.
const IDLE: Duration = Duration::from_secs(30);
/// Largest answer about one device: a twin with the time of change that the hub notes for each of its
/// properties, which takes ten times what a short property takes.
const DOCUMENT_MAX: usize = 1024 * 1024;
/// Header with which an answer that is not all of it says how to go on.
const CONTINUATION: &str = "x-ms-continuation";

/// How the hub's REST face is reached.
#[derive(Debug, Clone)]
pub struct HubRestSettings {
    /// Policy that signs the requests.
    pub connection: HubConnectionString,
    /// How the hub's certificate is checked.
    pub tls: HubTls,
    /// `host:port` to connect to instead of the hub's host at port 443. The hub's host name is still
    /// what the certificate must show.
    pub address: Option<String>,
    /// Through which proxy, if any.
    pub proxy: Option<Proxy>,
}

/// The hub's REST face. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HubRest {
    client: Client,
    face: Arc<Face>,
}

/// Where requests go, and what signs them.
#[derive(Debug)]
struct Face {
    /// `https://host` or `https://host:port`, read once and not for each request.
    root: Url,
    host: HeaderValue,
    tokens: Tokens,
}

impl HubRest {
    /// Prepares; connects on first use.
    ///
    /// # Errors
    /// [`HubError::Settings`] if the certificates to trust cannot be read.
    pub fn new(settings: HubRestSettings) -> Result<Self, HubError> {
        let HubRestSettings {
            connection,
            tls,
            address,
            proxy,
        } = settings;
        let wrong = |what: String| HubError::Settings { what };
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls.client()?.as_ref().clone())
            .https_only(true)
            .http1_only()
            .redirect(Policy::none())
            // Only the one of the settings: AMQP does not know those of the environment, and half of the
            // traffic through one would only confuse.
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE);
        if let Some(proxy) = proxy {
            let through = reqwest::Proxy::https(proxy.url())
                .map_err(|error| wrong(format!("proxy {proxy}: {}", chain(&error))))?;
            builder = builder.proxy(through);
        }
        let host = &connection.host;
        let mut root = format!("https://{host}");
        if let Some(address) = address {
            let port = address
                .rsplit_once(':')
                .and_then(|(_, port)| port.parse::<u16>().ok())
                .ok_or_else(|| {
                    wrong(format!("address {address:?} is not of the form host:port"))
                })?;
            root = format!("{root}:{port}");
            builder = builder.dns_resolver(Elsewhere { address });
        }
        let client = builder
            .build()
            .map_err(|error| wrong(format!("HTTPS: {}", chain(&error))))?;
        let host = HeaderValue::from_str(host)
            .map_err(|_| wrong(format!("HostName {host:?} is no host name")))?;
        let root = Url::parse(&root).map_err(|error| wrong(format!("{root}: {error}")))?;
        let face = Face {
            root,
            host,
            tokens: Tokens::new(connection),
        };
        Ok(Self {
            client,
            face: Arc::new(face),
        })
    }

    /// A request for `path`, which begins with a slash and may end in a query of its own. It is given the
    /// time that an answer from memory takes; what takes longer says so itself.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.face.root.clone();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let more = if query.is_empty() { "" } else { "&" };
        url.set_path(path);
        url.set_query(Some(&format!("{query}{more}api-version={API_VERSION}")));
        self.client.request(method, url).timeout(CONNECT + MARGIN)
    }

    /// The same with a body.
    fn request_with(&self, method: Method, path: &str, body: &impl Serialize) -> RequestBuilder {
        // Sets the type only where none is set.
        self.request(method, path)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .json(body)
    }

    /// Signs and sends a request; reads what its answer, of at most `most` bytes, means. Sent once.
    async fn exchange<T>(
        &self,
        request: RequestBuilder,
        subject: Subject<'_>,
        most: usize,
        meaning: impl FnOnce(&Answer<'_>, Subject<'_>) -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        let token = self.face.tokens.at(unix_now())?;
        let mut authorization =
            HeaderValue::from_str(token.expose()).map_err(|_| HubError::Settings {
                what: "the name of the shared access policy cannot be sent".into(),
            })?;
        authorization.set_sensitive(true);
        let sent = request
            .header(AUTHORIZATION, authorization)
            .header(HOST, self.face.host.clone())
            .send()
            .await;
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => return Err(lost(subject.what, &error)),
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            self.face.tokens.forget();
        }
        let body = body(&mut response, subject.what, most).await?;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let answer = Answer {
            status: response.status().as_u16(),
            error_code: header("iothub-errorcode"),
            retry_after: header(RETRY_AFTER.as_str()),
            continuation: header(CONTINUATION),
            body: &body,
        };
        meaning(&answer, subject)
    }
}

/// The body, within bounds.
async fn body(response: &mut Response, what: &str, most: usize) -> Result<Vec<u8>, HubError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= most => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => {
                return Err(HubError::Unexpected {
                    what: what.into(),
                    answer: format!("it has more than {most} bytes"),
                });
            }
            Ok(None) => return Ok(body),
            // The status alone says whether it was refused.
            Err(_) if !response.status().is_success() => return Ok(body),
            Err(error) => return Err(unknown(what, &error)),
        }
    }
}

/// No answer. Only what failed while connecting has provably not been sent.
fn lost(what: &str, error: &reqwest::Error) -> HubError {
    if error.is_connect() || error.is_builder() {
        return HubError::Transport {
            what: "the hub's REST face could not be reached".into(),
            cause: chain(error),
        };
    }
    unknown(what, error)
}

fn unknown(what: &str, error: &reqwest::Error) -> HubError {
    HubError::OutcomeUnknown {
        what: what.into(),
        cause: chain(error),
    }
}

/// An error and what is behind it, without the URL.
fn chain(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    let mut text = if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        "the connection failed".to_owned()
    };
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    words(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn rest(address: &str) -> Result<HubRest, HubError> {
        let text = "HostName=localhost;SharedAccessKeyName=p;SharedAccessKey=c2VjcmV0";
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new())
            .unwrap()
            .self_signed(&key)
            .unwrap();
        HubRest::new(HubRestSettings {
            connection: text.parse().unwrap(),
            tls: HubTls {
                ca: Some(certificate.pem().into()),
            },
            address: Some(address.into()),
            proxy: None,
        })
    }

    #[test]
    fn an_address_needs_a_port() {
        assert!(matches!(rest("localhost"), Err(HubError::Settings { .. })));
    }
}
