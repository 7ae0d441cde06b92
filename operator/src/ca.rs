//! The mesh's own certificate authority: a root that proxies trust, and an issuer below it that signs their certificates.
//! Keys are made on first start and kept, readable by the owner only, in the state folder.

mod csr;

pub use csr::{Csr, CsrError};

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;

const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const ISSUER_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// An issuer this close to its end is replaced at start.
const ISSUER_RENEW: Duration = Duration::from_secs(60 * 24 * 3600);
/// Clocks of other machines may lag by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(20);

/// A root and an issuer, ready to sign. Holds a private key: deliberately without `Debug` of it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    issuer_der: CertificateDer<'static>,
    issuer_ends: SystemTime,
    root_pem: String,
    root_ends: SystemTime,
    leaf_lifetime: Duration,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("issuer_ends", &self.issuer_ends).finish_non_exhaustive()
    }
}

/// A signed certificate with its chain.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub der: Vec<u8>,
    /// The issuer; the root stands in the trust anchors.
    pub intermediates: Vec<Vec<u8>>,
    pub not_after: SystemTime,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the issuer's certificate has expired (restart the operator to make a new one)")]
    IssuerExpired,
    #[error("signing failed: {0}")]
    Signing(#[from] rcgen::Error),
}

impl Authority {
    /// Reads the authority from `state_dir`/ca, or makes it. Writes `state_dir`/trust-anchors.pem.
    pub fn open(
        state_dir: &Path,
        trust_domain: &str,
        leaf_lifetime: Duration,
        now: SystemTime,
    ) -> anyhow::Result<Authority> {
        let dir = state_dir.join("ca");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("making {}", dir.display()))?;
        let root_name = name(&format!("root.{trust_domain}"));
        let (root_key, root_pem) = match read_pair(&dir, "root")? {
            Some(pair) => pair,
            None => {
                let key = KeyPair::generate()?;
                let cert = params(root_name.clone(), 1, now, ROOT_LIFE).self_signed(&key)?;
                write_pair(&dir, "root", &key, &cert)?;
                (key, cert.pem())
            }
        };
        let root_ends = ends(&root_pem).context("reading ca/root.pem")?;
        if root_ends <= now {
            bail!(
                "ca/root.pem in {} has expired (remove the folder ca to start a new trust domain)",
                state_dir.display()
            );
        }
        // An issuer of another root (the root's files were lost, say) would sign what nobody trusts.
        let kept = read_pair(&dir, "issuer")?.filter(|(_, pem)| is_signed_by(pem, &root_key));
        let kept = match kept {
            Some((key, pem)) if ends(&pem).context("reading ca/issuer.pem")? > now + ISSUER_RENEW => {
                Some((key, pem))
            }
            _ => None,
        };
        let issuer_name = name(&format!("issuer.{trust_domain}"));
        let (issuer_key, issuer_pem) = match kept {
            Some(pair) => pair,
            None => {
                let key = KeyPair::generate()?;
                let life = ISSUER_LIFE.min(root_ends.duration_since(now).unwrap_or_default());
                let root = Issuer::new(params(root_name, 1, now, ROOT_LIFE), root_key);
                let cert = params(issuer_name.clone(), 0, now, life).signed_by(&key, &root)?;
                write_pair(&dir, "issuer", &key, &cert)?;
                (key, cert.pem())
            }
        };
        let anchors = state_dir.join("trust-anchors.pem");
        write(&anchors, root_pem.as_bytes(), 0o644)?;
        Ok(Authority {
            issuer: Issuer::new(params(issuer_name, 0, now, ISSUER_LIFE), issuer_key),
            issuer_der: CertificateDer::from_pem_slice(issuer_pem.as_bytes())
                .context("reading ca/issuer.pem")?,
            issuer_ends: ends(&issuer_pem)?,
            root_pem,
            root_ends,
            leaf_lifetime,
        })
    }

    /// What proxies must trust.
    pub fn trust_anchors_pem(&self) -> &str {
        &self.root_pem
    }

    pub fn trust_anchor_ends(&self) -> SystemTime {
        self.root_ends
    }

    pub fn issuer_ends(&self) -> SystemTime {
        self.issuer_ends
    }

    /// Signs the request's key for the name it asks for. Whether the asker may have that name is the caller's business.
    /// Nothing else of the request gets into the certificate.
    pub fn sign(&self, csr: &Csr, now: SystemTime) -> Result<Leaf, SignError> {
        if self.issuer_ends <= now {
            return Err(SignError::IssuerExpired);
        }
        // Whole seconds, as certificates have them: what we say is what stands in it.
        let not_after = whole_seconds((now + self.leaf_lifetime).min(self.issuer_ends));
        let mut leaf = CertificateParams::default();
        leaf.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
        leaf.not_after = OffsetDateTime::from(not_after);
        leaf.serial_number = Some(serial());
        leaf.distinguished_name = DistinguishedName::new();
        leaf.subject_alt_names = vec![SanType::DnsName(csr.name.as_str().try_into()?)];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        let cert = leaf.signed_by(csr, &self.issuer)?;
        Ok(Leaf { der: cert.der().to_vec(), intermediates: vec![self.issuer_der.to_vec()], not_after })
    }
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

/// 128 random bits, positive.
fn serial() -> SerialNumber {
    let mut bytes = crate::random::bytes::<16>();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn ends(pem: &str) -> anyhow::Result<SystemTime> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).context("no certificate in it")?;
    let (_, cert) = x509_parser::parse_x509_certificate(&der).context("not a certificate")?;
    let seconds = u64::try_from(cert.validity().not_after.timestamp()).context("ends before 1970")?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// `None` where one of the two files is missing: the pair is then made anew.
fn read_pair(dir: &Path, name: &str) -> anyhow::Result<Option<(KeyPair, String)>> {
    let (key, cert) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.pem")));
    if !key.exists() || !cert.exists() {
        return Ok(None);
    }
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let pair =
        KeyPair::from_pem(&read(&key)?).with_context(|| format!("{} holds no private key", key.display()))?;
    let pem = read(&cert)?;
    let der = CertificateDer::from_pem_slice(pem.as_bytes());
    let der = der.with_context(|| format!("{} holds no certificate", cert.display()))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der)
        .with_context(|| format!("{} holds no certificate", cert.display()))?;
    if *parsed.public_key().subject_public_key.data != *pair.public_key_raw() {
        bail!("{} is not the key of {} (restore both, or remove both)", key.display(), cert.display());
    }
    Ok(Some((pair, pem)))
}

fn is_signed_by(pem: &str, key: &KeyPair) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return false };
    let Ok((_, cert)) = x509_parser::parse_x509_certificate(&der) else { return false };
    csr::verify(key.public_key_raw(), cert.tbs_certificate.as_ref(), &cert.signature_value.data).is_ok()
}

fn write_pair(dir: &Path, name: &str, key: &KeyPair, cert: &Certificate) -> anyhow::Result<()> {
    write(&dir.join(format!("{name}.key")), key.serialize_pem().as_bytes(), 0o600)?;
    write(&dir.join(format!("{name}.pem")), cert.pem().as_bytes(), 0o600)
}

/// Writes a whole file or nothing: who reads it while it changes sees the old one or the new one.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.partial"));
    let attempt = || -> std::io::Result<()> {
        let _ = fs::remove_file(&partial);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    attempt().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests;
