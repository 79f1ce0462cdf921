//! What the faces prove themselves with.

use std::{io, path::Path, sync::Arc};

use rustls::{ServerConfig, crypto::aws_lc_rs, version};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("{0}: {1}")]
    Read(String, io::Error),
    /// Not PEM, or nothing of the kind in it.
    #[error("no {0} in PEM: {1}")]
    Pem(&'static str, pem::Error),
    /// Chain and key do not fit, or are of a kind that TLS does not know.
    #[error("the certificate cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Reads a certificate chain and its private key from PEM files.
///
/// # Errors
/// [`TlsError`], naming the file.
pub fn from_files(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| TlsError::Read(path.display().to_string(), error))
    };
    from_pem(&read(chain)?, &read(key)?)
}

/// Takes a certificate chain and its private key (PKCS#1, PKCS#8 or SEC1) as PEM. TLS 1.2 and 1.3,
/// which is what IoT Hub speaks: the device SDKs ask for 1.2 only.
///
/// # Errors
/// [`TlsError`].
pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem("certificate", error))?;
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Pem("private key", error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS12, &version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}
