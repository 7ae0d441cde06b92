//! Certificate verification: the chain by webpki, then the identity by us. A certificate without exactly one usable name is
//! refused whatever signed it, so nobody past the handshake meets a verified peer without an identity.

use super::identity;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// Verifies peers that connect to us. A certificate is optional; one that is sent must be good.
#[derive(Debug)]
pub struct Clients(Arc<dyn ClientCertVerifier>);

/// Verifies peers that we connect to: their identity must be the server name, byte for byte.
#[derive(Debug)]
pub struct Servers(Arc<WebPkiServerVerifier>);

impl Clients {
    pub fn new(roots: Arc<RootCertStore>, crypto: Arc<CryptoProvider>) -> Result<Self, VerifierBuilderError> {
        WebPkiClientVerifier::builder_with_provider(roots, crypto)
            .allow_unauthenticated()
            .build()
            .map(Clients)
    }
}

impl Servers {
    pub fn new(roots: Arc<RootCertStore>, crypto: Arc<CryptoProvider>) -> Result<Self, VerifierBuilderError> {
        WebPkiServerVerifier::builder_with_provider(roots, crypto).build().map(Servers)
    }
}

fn refused(reason: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// Signatures are webpki's to check.
macro_rules! signatures_by_webpki {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls12_signature(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls13_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_verify_schemes()
        }
    };
}

impl ClientCertVerifier for Clients {
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(leaf, intermediates, now)?;
        identity(leaf).map_err(refused)?;
        Ok(verified)
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    /// None are named: clients have one certificate, and the list would tell everybody our authorities.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    signatures_by_webpki!();
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.0.verify_server_cert(leaf, intermediates, server_name, ocsp_response, now)?;
        // Webpki ignores case and takes wildcards; an identity is neither.
        if identity(leaf).map_err(refused)? != server_name.to_str() {
            return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
        }
        Ok(verified)
    }

    signatures_by_webpki!();
}
