//! A certificate authority for the API server, its users and the proxies.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType,
};
use rustls::ServerConfig;

/// A certificate and its key, all PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
    pub public: String,
    der: (Vec<u8>, Vec<u8>),
}

/// Signs identities.
pub struct Authority {
    /// What is trusted, PEM and DER.
    pub pem: String,
    pub der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn named(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    params
}

impl Authority {
    pub fn new() -> Self {
        let mut params = named("test", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A user of the API server: the common name, and a group.
    pub fn user(&self, name: &str, group: Option<&str>) -> Identity {
        let mut params = named(name, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// A server on the loopback interface.
    pub fn server(&self) -> Identity {
        let mut params = named("loopback", None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let loopback = std::net::Ipv4Addr::LOCALHOST;
        params.subject_alt_names = vec![SanType::IpAddress(loopback.into())];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            public: key.public_key_pem(),
            der: (certificate.der().to_vec(), key.serialize_der()),
        }
    }
}

impl Identity {
    /// For a server that shows this identity.
    pub fn tls(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![self.der.0.clone().into()],
                self.der.1.clone().try_into().unwrap(),
            )
            .unwrap();
        Arc::new(config)
    }
}
