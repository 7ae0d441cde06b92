//! A certificate authority for tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{sync::Arc, time::SystemTime};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer as _};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Default for Authority {
    fn default() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Authority(CertifiedIssuer::self_signed(authority("root.test"), key).unwrap())
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// What a test wants in a certificate.
pub struct Leaf {
    pub names: Vec<SanType>,
    pub common_name: Option<&'static str>,
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    pub is_ca: IsCa,
}

impl Leaf {
    pub fn named(name: &str) -> Leaf {
        let now = SystemTime::now();
        let hour = std::time::Duration::from_secs(3600);
        Leaf {
            names: vec![SanType::DnsName(name.try_into().unwrap())],
            common_name: None,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            not_before: now - hour,
            not_after: now + hour,
            is_ca: IsCa::NoCa,
        }
    }
}

impl Authority {
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    pub fn issue(&self, leaf: Leaf) -> (PrivateKeyDer<'static>, Vec<CertificateDer<'static>>) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = leaf.params().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (key, vec![certificate.der().clone()])
    }

    /// The same, through so many authorities that each signed the next.
    pub fn issue_below(
        &self,
        depth: usize,
        leaf: Leaf,
    ) -> (PrivateKeyDer<'static>, Vec<CertificateDer<'static>>) {
        let mut chain = vec![];
        let mut below: Option<Authority> = None;
        for number in 0..depth {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
            let issuer = &below.as_ref().unwrap_or(self).0;
            let next = CertifiedIssuer::signed_by(authority(&format!("{number}.test")), key, issuer).unwrap();
            chain.insert(0, next.der().clone());
            below = Some(Authority(next));
        }
        let (key, leaf) = below.as_ref().unwrap_or(self).issue(leaf);
        (key, [leaf, chain].concat())
    }

    /// Signs a request as an identity service does.
    pub fn sign(&self, csr: &[u8], leaf: Leaf) -> CertificateDer<'static> {
        let (_, csr) = X509CertificationRequest::from_der(csr).unwrap();
        let key = RequestedKey(csr.certification_request_info.subject_pki.subject_public_key.data.to_vec());
        leaf.params().signed_by(&key, &self.0).unwrap().der().clone()
    }
}

struct RequestedKey(Vec<u8>);

impl rcgen::PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Leaf {
    /// Vouched for by nobody else.
    pub fn self_signed(self) -> (PrivateKeyDer<'static>, Vec<CertificateDer<'static>>) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = self.params().self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (key, vec![certificate.der().clone()])
    }

    fn params(self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = self.common_name {
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
        }
        params.subject_alt_names = self.names;
        params.extended_key_usages = self.usages;
        params.not_before = self.not_before.into();
        params.not_after = self.not_after.into();
        params.is_ca = self.is_ca;
        params
    }
}
