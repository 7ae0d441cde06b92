//! One request for a certificate: a new key, a CSR with our name, the token that proves it, and a hard look at the answer.

use super::{Issued, fingerprint};
use crate::{config, control::calls::Channel, tls::configs::Material};
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse, identity_client::IdentityClient};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time;
use x509_parser::prelude::FromDer as _;

/// A signer that does not answer by then is asked again.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("token file {path}: {error}")]
    Token { path: PathBuf, error: io::Error },
    #[error("token file {path} is empty (is the projected volume mounted?)")]
    EmptyToken { path: PathBuf },
    #[error("make key and request: {0}")]
    Request(#[from] rcgen::Error),
    #[error("no answer within {TIMEOUT:?}")]
    Timeout,
    #[error("{}: {}", .0.code(), .0.message())]
    Refused(Box<tonic::Status>),
    #[error("answer without a usable expiry")]
    NoExpiry,
    #[error("certificate that is not usable: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The key never leaves this process; a new one is made for each certificate.
pub struct Request {
    key: PrivateKeyDer<'static>,
    pub csr: Vec<u8>,
}

/// Asks once. Nothing is kept of a failure.
pub async fn certify(
    config: &config::Identity,
    signer: &Channel,
    roots: Arc<RootCertStore>,
) -> Result<Issued, Error> {
    let token = token(&config.token_file)?;
    let request = Request::new(&config.name)?;
    let call = CertifyRequest {
        identity: config.name.to_string(),
        token,
        certificate_signing_request: request.csr.clone(),
    };
    let mut client = IdentityClient::new(signer.clone());
    let answer = time::timeout(TIMEOUT, client.certify(call)).await.map_err(|_| Error::Timeout)?;
    let answer = answer.map_err(|status| Error::Refused(Box::new(status)))?;
    accept(&config.name, request, answer.into_inner(), roots)
}

/// Kubernetes rotates tokens, so the file is read for every request. It is small and in memory: no need for another thread.
fn token(path: &PathBuf) -> Result<Vec<u8>, Error> {
    let token = std::fs::read(path).map_err(|error| Error::Token { path: path.clone(), error })?;
    let token = token.trim_ascii();
    if token.is_empty() { Err(Error::EmptyToken { path: path.clone() }) } else { Ok(token.to_vec()) }
}

impl Request {
    pub fn new(name: &str) -> Result<Request, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        // Names may be longer than a common name can be, and it proves nothing: the subject stays empty.
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key)?.der().to_vec();
        Ok(Request { key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())), csr })
    }
}

/// An answer is believed when the certificate is our key's, bears our name, is valid now and chains to our anchors.
pub fn accept(
    name: &str,
    request: Request,
    answer: CertifyResponse,
    roots: Arc<RootCertStore>,
) -> Result<Issued, Error> {
    let told = answer.valid_until.and_then(|at| SystemTime::try_from(at).ok()).ok_or(Error::NoExpiry)?;
    let expires = not_after(&answer.leaf_certificate).ok_or(Error::NoExpiry)?.min(told);
    if expires <= SystemTime::now() {
        return Err(Error::NoExpiry);
    }
    let mut chain = vec![CertificateDer::from(answer.leaf_certificate)];
    chain.extend(answer.intermediate_certificates.into_iter().map(CertificateDer::from));
    let issuer = fingerprint::of(chain.get(1));
    Ok(Issued { material: Material::new(name, request.key, chain, roots)?, expires, issuer })
}

fn not_after(leaf: &[u8]) -> Option<SystemTime> {
    let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(leaf).ok()?;
    let seconds = u64::try_from(leaf.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
