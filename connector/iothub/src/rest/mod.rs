//! The hub's REST face: direct methods, twins.

mod answer;
mod resolver;
mod twin;

use std::{sync::Arc, time::Duration};

use percent_encoding::utf8_percent_encode;
use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use serde_json::{Value, json};

use crate::{
    HubConnectionString, HubError, HubTls, Proxy,
    refusal::{Subject, words},
    sas::COMPONENT,
    token::{Tokens, unix_now},
};
use answer::{Answer, invoked};
use resolver::Elsewhere;
pub use twin::TwinReader;

/// The version that Microsoft's Python service SDK speaks.
const API_VERSION: &str = "2021-04-12";
/// TCP and TLS. A hub answers in tens of milliseconds; more is a network that will not.
const CONNECT: Duration = Duration::from_secs(5);
/// What the hub may take beyond the times that it was given.
const MARGIN: Duration = Duration::from_secs(5);
/// An unused connection is dropped before the hub drops it: a request that meets a closing connection
/// has an unknown outcome.
const IDLE: Duration = Duration::from_secs(30);
/// Bounds of the hub (Microsoft Learn, "Understand and invoke direct methods from IoT Hub").
const RESPONSE_SECONDS: std::ops::RangeInclusive<u64> = 5..=300;
const CONNECT_SECONDS_MAX: u64 = 300;
/// Largest payload of a method, each way (as above).
const PAYLOAD_MAX: usize = 128 * 1024;
/// Largest answer that is read: a method's payload and what is around it.
const ANSWER_MAX: usize = 2 * PAYLOAD_MAX;

const WHAT: &str = "the direct method";

/// A call of a direct method.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodCall {
    /// The device.
    pub device: String,
    /// A module of the device.
    pub module: Option<String>,
    /// Name of the method.
    pub name: String,
    /// What the method gets; at most 128 KiB as JSON.
    pub payload: Value,
    /// How long the hub waits for the device's answer. In whole seconds, rounded up; 5 to 300.
    pub response_timeout: Duration,
    /// How long the hub waits for a disconnected device. In whole seconds, rounded up; 0 to 300.
    pub connect_timeout: Duration,
}

/// What the device's method answered.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodAnswer {
    /// The method's own status; means what the device's program says it means.
    pub status: i32,
    /// What the method returned.
    pub payload: Value,
}

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
    /// `https://host` or `https://host:port`
    root: String,
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

    /// Calls a direct method and waits for the device's answer.
    ///
    /// # Errors
    /// [`HubError`]; [`HubError::taken`] tells whether the device may have run it.
    pub async fn invoke(&self, call: &MethodCall) -> Result<MethodAnswer, HubError> {
        let payload = call.payload.to_string();
        if payload.len() > PAYLOAD_MAX {
            return Err(HubError::TooLarge {
                what: "the payload of a direct method".into(),
            });
        }
        let id = id(call);
        if !addressable(call) {
            return Err(HubError::DeviceNotFound { id });
        }
        let subject = Subject {
            what: WHAT,
            id: &id,
        };
        let (response, connect) = seconds(call);
        let body = json!({
            "methodName": call.name,
            "payload": call.payload,
            "responseTimeoutInSeconds": response,
            "connectTimeoutInSeconds": connect,
        });
        let url = format!("{}{}?api-version={API_VERSION}", self.face.root, path(call));
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body.to_string())
            .timeout(CONNECT + Duration::from_secs(response + connect) + MARGIN);
        self.exchange(request, subject, invoked).await
    }

    /// Signs and sends a request; reads what its answer means.
    async fn exchange<T>(
        &self,
        request: RequestBuilder,
        subject: Subject<'_>,
        meaning: fn(&Answer<'_>, Subject<'_>) -> Result<T, HubError>,
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
        let body = body(&mut response, subject.what).await?;
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
            body: &body,
        };
        meaning(&answer, subject)
    }
}

/// The body, within bounds.
async fn body(response: &mut Response, what: &str) -> Result<Vec<u8>, HubError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_MAX => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => {
                return Err(HubError::Unexpected {
                    what: what.into(),
                    answer: format!("it has more than {ANSWER_MAX} bytes"),
                });
            }
            Ok(None) => return Ok(body),
            // The status alone says whether it was refused.
            Err(_) if response.status() != StatusCode::OK => return Ok(body),
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

/// The device, or device and module.
fn id(call: &MethodCall) -> String {
    match &call.module {
        Some(module) => format!("{}/{module}", call.device),
        None => call.device.clone(),
    }
}

/// In a URL, an empty id or one of dots alone is no id but a way to another resource, even encoded.
fn addressable(call: &MethodCall) -> bool {
    [Some(&call.device), call.module.as_ref()]
        .into_iter()
        .flatten()
        .all(|id| !matches!(id.as_str(), "" | "." | ".."))
}

fn path(call: &MethodCall) -> String {
    let encoded = |part: &str| utf8_percent_encode(part, COMPONENT).to_string();
    let device = encoded(&call.device);
    match &call.module {
        Some(module) => format!("/twins/{device}/modules/{}/methods", encoded(module)),
        None => format!("/twins/{device}/methods"),
    }
}

/// Time-outs for the answer and for the device's connection, as the hub takes them.
fn seconds(call: &MethodCall) -> (u64, u64) {
    let whole = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let response =
        whole(call.response_timeout).clamp(*RESPONSE_SECONDS.start(), *RESPONSE_SECONDS.end());
    let connect = whole(call.connect_timeout).min(CONNECT_SECONDS_MAX);
    (response, connect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Taken;

    fn call() -> MethodCall {
        MethodCall {
            device: "pump 1/ä?".into(),
            module: None,
            name: "reboot".into(),
            payload: Value::Null,
            response_timeout: Duration::from_millis(9100),
            connect_timeout: Duration::ZERO,
        }
    }

    fn rest(address: &str) -> Result<HubRest, HubError> {
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
    fn ids_are_encoded() {
        let mut call = call();
        assert_eq!(path(&call), "/twins/pump%201%2F%C3%A4%3F/methods");
        assert_eq!(id(&call), "pump 1/ä?");
        call.module = Some("m#".into());
        assert_eq!(
            path(&call),
            "/twins/pump%201%2F%C3%A4%3F/modules/m%23/methods"
        );
        assert_eq!(id(&call), "pump 1/ä?/m#");
    }

    #[test]
    fn times_are_whole_seconds_within_the_hubs_bounds() {
        for (response, connect, expected) in [
            (9100, 0, (10, 0)),
            (1000, 1, (5, 1)),
            (301_000, 400_000, (300, 300)),
            (30_000, 2000, (30, 2)),
        ] {
            let call = MethodCall {
                response_timeout: Duration::from_millis(response),
                connect_timeout: Duration::from_millis(connect),
                ..call()
            };
            assert_eq!(seconds(&call), expected);
        }
    }

    #[tokio::test]
    async fn a_hub_that_cannot_be_reached_has_taken_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = rest(&address).unwrap().invoke(&call()).await.unwrap_err();
        assert!(matches!(error, HubError::Transport { .. }), "{error}");
        assert_eq!(error.taken(), Taken::No);
    }

    #[tokio::test]
    async fn a_payload_that_is_too_large_is_not_sent() {
        let call = MethodCall {
            payload: Value::String("x".repeat(PAYLOAD_MAX)),
            ..call()
        };
        let error = rest("127.0.0.1:1")
            .unwrap()
            .invoke(&call)
            .await
            .unwrap_err();
        assert!(matches!(error, HubError::TooLarge { .. }));
    }

    #[tokio::test]
    async fn an_id_cannot_lead_to_another_resource() {
        for device in ["", ".", ".."] {
            let call = MethodCall {
                device: device.into(),
                ..call()
            };
            let error = rest("127.0.0.1:1")
                .unwrap()
                .invoke(&call)
                .await
                .unwrap_err();
            assert!(
                matches!(error, HubError::DeviceNotFound { .. }),
                "{device}: {error}"
            );
        }
    }

    #[test]
    fn an_address_needs_a_port() {
        assert!(matches!(rest("localhost"), Err(HubError::Settings { .. })));
    }
}
