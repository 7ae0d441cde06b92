//! Certificates for every purpose of a test: a mesh's trust anchor, leaves that are right, and leaves that are wrong in one way.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, crypto::CryptoProvider,
    pki_types::CertificateDer, server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::{iter, sync::Arc};
use time::OffsetDateTime;

const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A certificate authority made for one test.
pub struct Ca {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A leaf certificate with its key.
pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Leaf {
    /// One that an operator has issued for a key of ours.
    pub fn issued(leaf: Vec<u8>, intermediates: Vec<Vec<u8>>, key: &KeyPair) -> Leaf {
        Leaf {
            chain: iter::once(leaf).chain(intermediates).map(CertificateDer::from).collect(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        }
    }

    /// A leaf that nobody has signed but itself.
    pub fn self_signed(name: &str) -> Leaf {
        let key = KeyPair::generate().expect("P-256 keys can always be made");
        let certificate =
            leaf_params(name, Validity::DAY).self_signed(&key).expect("the parameters are complete");
        Leaf {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        }
    }
}

/// When a leaf is valid, relative to now.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// Positive for one that has not begun.
    pub from_s: i64,
    /// Negative for one that has ended.
    pub until_s: i64,
}

impl Validity {
    pub const DAY: Validity = Validity { from_s: -60, until_s: 24 * 3600 };
    /// Ended ten minutes ago: beyond any tolerance for clocks that differ.
    pub const EXPIRED: Validity = Validity { from_s: -7200, until_s: -600 };
    /// Begins in an hour.
    pub const NOT_YET: Validity = Validity { from_s: 3600, until_s: 24 * 3600 };

    pub const fn seconds(until_s: i64) -> Validity {
        Validity { from_s: -60, until_s }
    }

    pub fn not_after(self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + time::Duration::seconds(self.until_s)
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca")
    }
}

impl Ca {
    pub fn new(name: &str) -> Ca {
        let key = KeyPair::generate().expect("P-256 keys can always be made");
        let params = authority_params(name);
        let certificate = params.self_signed(&key).expect("the parameters are complete");
        Ca { certificate, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key, in PEM, of an issuer below this authority.
    pub fn intermediate(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("P-256 keys can always be made");
        let certificate =
            authority_params(name).signed_by(&key, &self.issuer).expect("the parameters are complete");
        (certificate.pem(), key.serialize_pem())
    }

    /// The anchors file of a proxy that trusts this authority.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A leaf whose one name is `name`, with a new key.
    pub fn leaf(&self, name: &str, validity: Validity) -> Leaf {
        let key = KeyPair::generate().expect("P-256 keys can always be made");
        let certificate =
            leaf_params(name, validity).signed_by(&key, &self.issuer).expect("the parameters are complete");
        Leaf {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        }
    }

    /// Signs a request for its own key, under `name`, whatever name it asks for.
    pub fn sign(&self, request: &[u8], name: &str, validity: Validity) -> Vec<u8> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .expect("the proxy sends a valid certificate request");
        let certificate = leaf_params(name, validity)
            .signed_by(&request.public_key, &self.issuer)
            .expect("the parameters are complete");
        certificate.der().to_vec()
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("our own certificate parses");
        Arc::new(roots)
    }

    /// A client that trusts this authority and shows `leaf`, or nothing.
    pub fn client(&self, leaf: Option<Leaf>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        client(self.roots(), leaf, alpn)
    }

    /// A server that shows `leaf` and asks clients for a certificate of this authority.
    pub fn server(&self, leaf: Leaf, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider())
            .allow_unauthenticated()
            .build()
            .expect("there is a root");
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(TLS13)
            .expect("the provider knows TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(leaf.chain, leaf.key)
            .expect("key and certificate were made for each other");
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

/// The names a certificate request asks for, and its public key's curve by signature algorithm name.
pub fn requested_names(request: &[u8]) -> Vec<String> {
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
        .expect("a valid certificate request");
    let mut names = Vec::new();
    for san in request.params.subject_alt_names {
        match san {
            SanType::DnsName(name) => names.push(name.to_string()),
            other => names.push(format!("{other:?}")),
        }
    }
    names
}

/// A certificate request in DER for these names, with the key that signed it.
pub fn request(names: &[&str]) -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate().expect("P-256 keys can always be made");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("the names are DNS names");
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).expect("the parameters are complete");
    (key, request.der().to_vec())
}

/// Trust anchors of a PEM file.
pub fn anchors(pem: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.expect("a PEM file")).expect("a certificate");
    }
    Arc::new(roots)
}

/// A client with these trust anchors that shows `leaf`, or nothing.
pub fn client(roots: Arc<RootCertStore>, leaf: Option<Leaf>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(TLS13)
        .expect("the provider knows TLS 1.3")
        .with_root_certificates(roots);
    let mut config = match leaf {
        Some(leaf) => builder
            .with_client_auth_cert(leaf.chain, leaf.key)
            .expect("key and certificate were made for each other"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - time::Duration::days(1);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::days(30);
    params
}

fn leaf_params(name: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("the name is a DNS name");
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = OffsetDateTime::now_utc() + time::Duration::seconds(validity.from_s);
    params.not_after = validity.not_after();
    params
}
