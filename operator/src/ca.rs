//! The mesh's own certificate authority: signs proxies' certificates with an issuer that chains to a root which they trust.
//! Where its keys come from is `keys`' business; where they are kept, `folder`'s (standalone) or `cluster`'s.

mod csr;
mod fingerprint;
mod folder;
mod keys;
pub mod rotation;

pub use csr::{Csr, CsrError};
pub(crate) use folder::write;
pub use keys::Keys;

use anyhow::Context;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use rotation::{Phase, Wanted};
use rustls::{RootCertStore, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;

/// Clocks of other machines may lag by this much.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(20);

/// An issuer that is ready to sign, with what proxies must trust to believe it. Holds a private key: deliberately without
/// `Debug` of it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The issuer first, then what leads from it to a root.
    chain: Vec<CertificateDer<'static>>,
    /// The end of the chain's first to end.
    issuer_ends: SystemTime,
    anchors_pem: String,
    anchors_end: SystemTime,
    leaf_lifetime: Duration,
    phase: Phase,
    wanted: Wanted,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("issuer_ends", &self.issuer_ends).finish_non_exhaustive()
    }
}

/// The same keys, the same anchors, and as far in changing them.
impl PartialEq for Authority {
    fn eq(&self, other: &Authority) -> bool {
        let facts = |own: &Authority| (own.wanted, own.phase.clone());
        (&self.chain, &self.anchors_pem) == (&other.chain, &other.anchors_pem) && facts(self) == facts(other)
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
    #[error(
        "the issuer's certificate has expired (an operator that starts renews its own; one of your own is renewed where it is made)"
    )]
    IssuerExpired,
    #[error("signing failed: {0}")]
    Signing(#[from] rcgen::Error),
}

impl Authority {
    /// Refuses keys by which no proxy would be believed: the issuer's key is not its certificate's, it has expired, or what it
    /// signs does not chain to the anchors.
    pub fn new(keys: &Keys, leaf_lifetime: Duration, now: SystemTime) -> anyhow::Result<Authority> {
        let key = keys.issuer_key()?;
        let chain = CertificateDer::pem_slice_iter(keys.issuer_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.context("the issuer's certificate cannot be read")?;
        let issuer = chain.first().context("the issuer has no certificate")?;
        let anchors =
            CertificateDer::pem_slice_iter(keys.anchors_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let wanted = Wanted {
            anchors: fingerprint::of(&anchors.context("a trust anchor is no PEM")?),
            issuer: fingerprint::of([issuer]),
        };
        let authority = Authority {
            issuer: Issuer::from_ca_cert_der(issuer, key)
                .context("the issuer's certificate cannot be read")?,
            issuer_ends: keys::first_end(&chain)?,
            chain,
            anchors_pem: keys.anchors_pem.clone(),
            anchors_end: keys::ends(&keys.anchors_pem)?,
            leaf_lifetime,
            phase: keys.phase(),
            wanted,
        };
        authority.prove(now).context("a certificate of this issuer would not be believed")?;
        Ok(authority)
    }

    /// What proxies must trust.
    pub fn trust_anchors_pem(&self) -> &str {
        &self.anchors_pem
    }

    /// The same, whose root cannot be changed here.
    pub fn without_rotation(self, why: &'static str) -> Authority {
        Authority { phase: Phase::Refused(why), ..self }
    }

    /// How far the change to a new root is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What proxies report that have followed.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    pub fn trust_anchor_ends(&self) -> SystemTime {
        self.anchors_end
    }

    /// How long a certificate lives, unless the issuer ends before.
    pub fn leaf_lifetime(&self) -> Duration {
        self.leaf_lifetime
    }

    pub fn issuer_ends(&self) -> SystemTime {
        self.issuer_ends
    }

    /// Signs the request's key for the name it asks for. Whether the asker may have that name is the caller's business.
    /// Nothing else of the request gets into the certificate.
    pub fn sign(&self, csr: &Csr, now: SystemTime) -> Result<Leaf, SignError> {
        self.issue(&csr.name, csr, now)
    }

    /// A certificate for a key that need not be proved: our own.
    pub fn issue(&self, name: &str, key: &impl PublicKeyData, now: SystemTime) -> Result<Leaf, SignError> {
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
        leaf.subject_alt_names = vec![SanType::DnsName(name.try_into()?)];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        let cert = leaf.signed_by(key, &self.issuer)?;
        let intermediates = self.chain.iter().map(|der| der.to_vec()).collect();
        Ok(Leaf { der: cert.der().to_vec(), intermediates, not_after })
    }

    /// Signs something and looks at it as a proxy would.
    fn prove(&self, now: SystemTime) -> anyhow::Result<()> {
        let leaf = self.issue("probe.invalid", &KeyPair::generate()?, now)?;
        let chain: Vec<CertificateDer<'_>> =
            leaf.intermediates.iter().map(|der| der.as_slice().into()).collect();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots(&self.anchors_pem)?.into(), provider)
                .build()?;
        let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH)?);
        verifier.verify_client_cert(&leaf.der.as_slice().into(), &chain, now)?;
        Ok(())
    }
}

/// The trust anchors in a text of PEM; one that cannot be read is an error, not a smaller trust.
pub fn roots(pem: &str) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots
            .add(certificate.context("a trust anchor is no PEM")?)
            .context("a trust anchor is not usable")?;
    }
    anyhow::ensure!(!roots.is_empty(), "no trust anchor");
    Ok(roots)
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

#[cfg(test)]
mod tests;
