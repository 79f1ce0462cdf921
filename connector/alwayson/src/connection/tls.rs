//! How a node's certificate is checked.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use url::Url;

use super::error::ConnectError;

/// How nodes' certificates are checked. The host name is always checked.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Certificates (PEM) of the authorities to trust; `None` for those of the operating system.
    pub ca: Option<Vec<u8>>,
    /// Name to expect instead of the URL's host.
    pub server_name: Option<String>,
}

impl TlsSettings {
    /// The rustls settings and the name to expect for `url`.
    ///
    /// # Errors
    /// [`ConnectError::Tls`] if there is no certificate to trust or the name is none.
    pub(super) fn client(
        &self,
        url: &Url,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), ConnectError> {
        let tls = |what: String| ConnectError::Tls(what);
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|error| tls(format!("CA: {error}")))?;
                    roots
                        .add(certificate)
                        .map_err(|error| tls(format!("CA: {error}")))?;
                }
                if roots.is_empty() {
                    return Err(tls("the CA file holds no certificate".into()));
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = self
            .server_name
            .as_deref()
            .or(url.host_str())
            .unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(host)
            .map_err(|error| tls(format!("the name to expect: {error}")))?;
        Ok((Arc::new(config), name))
    }
}
