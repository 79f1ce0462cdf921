//! TLS towards the hub's own host.

use std::sync::Arc;

use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::error::HubError;

/// How the hub's certificate is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubTls {
    /// Certificates (PEM) of the authorities to trust *instead of* those of the operating system.
    pub ca: Option<Bytes>,
}

impl HubTls {
    /// TLS 1.2 and 1.3, without client certificate. The operating system's trust store is read anew
    /// each time.
    ///
    /// The provider is named: the process may hold another one, or two, of which rustls would pick
    /// none.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, HubError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| settings(&format!("TLS: {error}")))?;
        let config = match &self.ca {
            Some(pem) => builder
                .with_root_certificates(roots(pem)?)
                .with_no_client_auth(),
            None => builder
                .with_platform_verifier()
                .map_err(|error| {
                    settings(&format!(
                        "the trust store of the operating system cannot be used: {error}"
                    ))
                })?
                .with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, HubError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate
            .map_err(|error| settings(&format!("tls.ca cannot be read as PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| settings(&format!("tls.ca holds a bad certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(settings("tls.ca holds no certificate"));
    }
    Ok(roots)
}

fn settings(what: &str) -> HubError {
    HubError::Settings { what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_authorities_replace_those_of_the_system() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let two = format!("{pem}\n# a comment\n{pem}");
        assert_eq!(roots(two.as_bytes()).unwrap().len(), 2);
        let tls = HubTls {
            ca: Some(pem.into()),
        };
        assert!(tls.client().is_ok());
    }

    #[test]
    fn what_is_no_certificate_is_said() {
        for (pem, says) in [
            ("", "no certificate"),
            ("hello", "no certificate"),
            (
                "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
                "PEM",
            ),
            (
                "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
                "bad certificate",
            ),
        ] {
            let error = roots(pem.as_bytes()).unwrap_err();
            assert!(matches!(error, HubError::Settings { .. }));
            assert!(error.to_string().contains(says), "{pem}: {error}");
        }
    }
}
