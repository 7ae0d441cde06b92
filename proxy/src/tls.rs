//! Mesh TLS: which certificates are believed, and whose name they prove.

pub mod configs;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod verify;

use rustls::{CertificateError, Error};
use rustls_pki_types::CertificateDer;
use std::{io, sync::Arc};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

/// Why a certificate proves no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    #[error("the certificate is not readable")]
    Unreadable,
    #[error("the certificate has no DNS name (a common name does not count)")]
    NoName,
    #[error("the certificate has more than one name")]
    ManyNames,
    #[error("the certificate's name is not a lower-case DNS name without wildcard")]
    BadName,
}

/// The identity that a verified connection's peer proved; `None` when it sent no certificate.
pub fn peer_identity(connection: &rustls::CommonState) -> Option<Arc<str>> {
    let certificate = connection.peer_certificates()?.first()?;
    // The verifiers refuse certificates without an identity, so this is `Some` for every verified peer.
    identity(certificate).ok().map(Arc::from)
}

/// The identity in a certificate: its only subject alternative name, a DNS name. Never the common name.
pub fn identity(certificate: &CertificateDer<'_>) -> Result<String, NoIdentity> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|_| NoIdentity::Unreadable)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| NoIdentity::Unreadable)?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    match names {
        [] => Err(NoIdentity::NoName),
        [GeneralName::DNSName(name)] if is_identity(name) => Ok((*name).to_owned()),
        [GeneralName::DNSName(_)] => Err(NoIdentity::BadName),
        [_] => Err(NoIdentity::NoName),
        [_, _, ..] => Err(NoIdentity::ManyNames),
    }
}

fn is_identity(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && rustls_pki_types::DnsName::try_from(name).is_ok()
}

/// Why a handshake failed, as the metric label `error`.
pub fn refusal(error: &io::Error) -> &'static str {
    let Some(Error::InvalidCertificate(error)) = error.get_ref().and_then(|inner| inner.downcast_ref())
    else {
        return "tls";
    };
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "tls_validity",
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "tls_issuer",
        CertificateError::Other(other) if other.0.is::<NoIdentity>() => "tls_identity",
        _ => "tls_certificate",
    }
}
