//! What an authority is made of, as PEM, wherever it is kept: made once, renewed before it ends. Pure but for the random keys.

use super::{CLOCK_SKEW, rotation::Rotation, serial};
use anyhow::{Context, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
pub(super) const ISSUER_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// An issuer this close to its end is replaced.
const ISSUER_RENEW: Duration = Duration::from_secs(60 * 24 * 3600);

/// Holds private keys: deliberately without `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The roots that proxies trust; the first is the issuer's.
    pub anchors_pem: String,
    /// `None` where somebody else keeps it: then they renew the issuer too.
    pub root_key_pem: Option<String>,
    /// The issuer first, then what leads from it to a root.
    pub issuer_pem: String,
    pub issuer_key_pem: String,
    pub rotation: Rotation,
}

impl Keys {
    pub fn generate(trust_domain: &str, now: SystemTime) -> anyhow::Result<Keys> {
        let (root_key, root_pem) = root(trust_domain, now)?;
        let (issuer_key_pem, issuer_pem) = issuer(trust_domain, &root_pem, &root_key, now)?;
        Ok(Keys {
            anchors_pem: root_pem,
            root_key_pem: Some(root_key),
            issuer_pem,
            issuer_key_pem,
            rotation: Rotation::None,
        })
    }

    /// Whether the issuer ends soon, and a new one would not: none outlives the root.
    pub fn is_due(&self, now: SystemTime) -> anyhow::Result<bool> {
        let issuer = ends(&self.issuer_pem).context("reading the issuer's certificate")?;
        let root = ends(&self.anchors_pem).context("reading the root")?;
        Ok(issuer <= now + ISSUER_RENEW && issuer < root)
    }

    /// The same roots with a new issuer.
    pub fn renewed(&self, trust_domain: &str, now: SystemTime) -> anyhow::Result<Keys> {
        let root_key = self.root_key_pem.as_deref().context("the root's key is not ours")?;
        let (issuer_key_pem, issuer_pem) = issuer(trust_domain, &self.anchors_pem, root_key, now)?;
        Ok(Keys { issuer_key_pem, issuer_pem, ..self.clone() })
    }

    /// The issuer's key, if it is the one of its certificate.
    pub(super) fn issuer_key(&self) -> anyhow::Result<KeyPair> {
        let key = key(&self.issuer_key_pem).context(
            "the issuer's key cannot be read: want one that is not encrypted, in PEM, as PKCS #8, SEC 1 or PKCS #1 \
             (cert-manager: privateKey: {algorithm: ECDSA, encoding: PKCS8})",
        )?;
        ensure!(is_pair(&key, &self.issuer_pem)?, "the issuer's key is not the one of its certificate");
        Ok(key)
    }
}

/// The first private key of a text; what may stand before it, such as a curve's name, is no key.
fn key(pem: &str) -> anyhow::Result<KeyPair> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())?;
    Ok(KeyPair::try_from(&der)?)
}

/// `(key, certificate)` of a new root.
pub(super) fn root(trust_domain: &str, now: SystemTime) -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    let cert = params(name(&format!("root.{trust_domain}")), 1, now, ROOT_LIFE).self_signed(&key)?;
    Ok((key.serialize_pem(), cert.pem()))
}

/// `(key, certificate)` of a new issuer below a root.
pub(super) fn issuer(
    trust_domain: &str,
    root_pem: &str,
    root_key: &str,
    now: SystemTime,
) -> anyhow::Result<(String, String)> {
    let root_der = first(root_pem)?;
    let root = Issuer::from_ca_cert_der(&root_der, KeyPair::from_pem(root_key)?)?;
    let key = KeyPair::generate()?;
    let life = ISSUER_LIFE.min(ends(root_pem)?.duration_since(now).unwrap_or_default());
    let cert = params(name(&format!("issuer.{trust_domain}")), 0, now, life).signed_by(&key, &root)?;
    Ok((key.serialize_pem(), cert.pem()))
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // A CommonName has at most 64 characters.
    name.push(DnType::CommonName, common.chars().take(64).collect::<String>());
    name
}

fn params(subject: DistinguishedName, path_length: u8, now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
    params.not_after = OffsetDateTime::from(now + life);
    params.serial_number = Some(serial());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn first(pem: &str) -> anyhow::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).context("no certificate in it")
}

/// When the first certificate of a text ends.
pub(super) fn ends(pem: &str) -> anyhow::Result<SystemTime> {
    end(&first(pem)?)
}

/// When a chain is no longer whole.
pub(super) fn first_end(chain: &[CertificateDer<'_>]) -> anyhow::Result<SystemTime> {
    let ends = chain.iter().map(end).collect::<anyhow::Result<Vec<_>>>()?;
    ends.into_iter().min().context("no certificate in it")
}

fn end(der: &CertificateDer<'_>) -> anyhow::Result<SystemTime> {
    let (_, cert) = x509_parser::parse_x509_certificate(der).context("not a certificate")?;
    let seconds = u64::try_from(cert.validity().not_after.timestamp()).context("ends before 1970")?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Whether the text's first certificate is the one of this key.
pub(super) fn is_pair(key: &KeyPair, pem: &str) -> anyhow::Result<bool> {
    let der = first(pem)?;
    let (_, cert) = x509_parser::parse_x509_certificate(&der).context("not a certificate")?;
    Ok(*cert.public_key().subject_public_key.data == *key.public_key_raw())
}
