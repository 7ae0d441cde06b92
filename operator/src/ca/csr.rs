//! Certificate signing requests, from anybody who can reach us: small, self-signed by a P-256 key, asking for one DNS name
//! and nothing else.

use mesh_api::dns;
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use rustls::SignatureScheme;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256},
    prelude::FromDer,
};

/// A P-256 request for one name has under 400 bytes.
const MAX_BYTES: usize = 4096;

/// A request whose signature holds.
#[derive(Debug)]
pub struct Csr {
    /// The one DNS name it asks for.
    pub name: String,
    /// The point, uncompressed.
    pub(super) public_key: Vec<u8>,
}

/// Why a request is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not what we can read.
    #[error("certificate signing request: {0}")]
    Malformed(&'static str),
    /// Readable, but asks for something that nobody gets.
    #[error("certificate signing request: {0}")]
    Refused(&'static str),
}

use CsrError::{Malformed, Refused};

impl Csr {
    /// Of the key that signed it.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Reads and checks a request in DER.
    pub fn read(der: &[u8]) -> Result<Csr, CsrError> {
        if der.is_empty() || der.len() > MAX_BYTES {
            return Err(Malformed("want 1 to 4096 bytes of DER"));
        }
        let (rest, csr) =
            X509CertificationRequest::from_der(der).map_err(|_| Malformed("not DER of a request"))?;
        if !rest.is_empty() {
            return Err(Malformed("has bytes after its end"));
        }
        let info = &csr.certification_request_info;
        let curve =
            info.subject_pki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        if info.subject_pki.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != Some(OID_EC_P256) {
            return Err(Malformed("the key is not ECDSA P-256"));
        }
        if csr.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
            return Err(Malformed("not signed with ECDSA and SHA-256"));
        }
        let public_key = info.subject_pki.subject_public_key.data.to_vec();
        verify(&public_key, info.raw, &csr.signature_value.data)?;
        let name = only_name(&csr)?;
        Ok(Csr { name, public_key })
    }
}

/// Whether an ECDSA P-256 signature with SHA-256 holds.
pub(super) fn verify(public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CsrError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mapping = provider.signature_verification_algorithms.mapping;
    let algorithms = mapping.iter().filter(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256);
    let holds = algorithms
        .flat_map(|(_, algorithms)| algorithms.iter())
        .any(|algorithm| algorithm.verify_signature(public_key, message, signature).is_ok());
    if holds { Ok(()) } else { Err(Malformed("its signature does not hold")) }
}

/// Exactly one DNS name in the SAN; the subject empty or the same name; no other extension.
fn only_name(csr: &X509CertificationRequest<'_>) -> Result<String, CsrError> {
    let mut names = vec![];
    for extension in csr.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(san) = extension else {
            return Err(Refused("asks for an extension other than its name"));
        };
        for name in &san.general_names {
            let GeneralName::DNSName(name) = name else {
                return Err(Refused("asks for a name that is no DNS name"));
            };
            names.push(*name);
        }
    }
    let [name] = names[..] else { return Err(Refused("want exactly one DNS name")) };
    if !dns::is_name(name) {
        return Err(Refused("its name is no DNS name in lower case"));
    }
    let mut subject = csr.certification_request_info.subject.iter_attributes();
    let same = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        *attribute.attr_type() == x509_parser::oid_registry::OID_X509_COMMON_NAME
            && attribute.as_str() == Ok(name)
    };
    match subject.all(same) {
        true => Ok(name.to_owned()),
        false => Err(Refused("its subject is neither empty nor its name")),
    }
}

impl PublicKeyData for Csr {
    fn der_bytes(&self) -> &[u8] {
        &self.public_key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}
