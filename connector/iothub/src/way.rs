//! How the hub's hosts are reached: AMQP by itself or in WebSockets; straight on or through a proxy.

use std::{fmt, str::FromStr};

use url::Url;

/// How AMQP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// By itself over TLS, to port 5671.
    #[default]
    Amqp,
    /// In WebSockets, to port 443: for networks that let nothing else out.
    WebSockets,
}

/// An HTTP proxy that is asked to `CONNECT` to the hub's hosts. Without user and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy(Url);

/// Why a text names no proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not of the form.
    #[error("must read http://host:port")]
    Form,
    /// With a user or a password.
    #[error(
        "must not hold a user or a password; a proxy that asks for them is not supported, and settings \
         are no place for secrets"
    )]
    Credentials,
}

impl Proxy {
    /// The proxy as a URL, `http://host:port/`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url())
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let url = Url::parse(text).map_err(|_| ProxyError::Form)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ProxyError::Credentials);
        }
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "http" || url.host_str().is_none_or(str::is_empty) || !bare {
            return Err(ProxyError::Form);
        }
        Ok(Self(url))
    }
}

/// The way to the hub's hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Way {
    /// How AMQP travels.
    pub transport: Transport,
    /// Through which proxy, if any. It carries REST as well.
    pub proxy: Option<Proxy>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_host_and_a_port() {
        for text in [
            "http://proxy:3128",
            "http://10.0.0.1:8080/",
            "http://[::1]:3128",
        ] {
            assert!(text.parse::<Proxy>().is_ok(), "{text}");
        }
        for text in [
            "",
            "proxy:3128",
            "https://proxy:3128",
            "http://",
            "http://proxy:3128/x",
            "http://p:1?x",
        ] {
            assert_eq!(text.parse::<Proxy>(), Err(ProxyError::Form), "{text}");
        }
        for text in ["http://me@proxy:3128", "http://me:hunter2@proxy:3128"] {
            let error = text.parse::<Proxy>().unwrap_err();
            assert_eq!(error, ProxyError::Credentials);
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
