//! The rustls configurations: TLS 1.3 only, nothing resumed (an identity is proved in every handshake), no early data.

use super::verify::{Clients, Servers};
use rustls::{
    ClientConfig, Error, RootCertStore, ServerConfig,
    client::{Resumption, danger::ServerCertVerifier as _},
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite, kx_group},
    },
    server::{NoServerSessionStorage, danger::ClientCertVerifier as _},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::sync::{Arc, LazyLock};

/// ALPN of proxies that talk HTTP/2 without a transport header.
const H2: &[u8] = b"h2";

/// Cipher suites and key exchanges as Linkerd's, best first.
static CRYPTO: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..aws_lc_rs::default_provider()
    })
});

/// A key with its certificate, and the roots to believe: what all our configurations are made of.
#[derive(Debug)]
pub struct Material {
    certified: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
}

impl Material {
    /// Refuses a certificate that is not the key's, that does not chain to the roots now, or that is not `name`'s.
    pub fn new(
        name: &str,
        key: PrivateKeyDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        roots: Arc<RootCertStore>,
    ) -> Result<Material, Error> {
        let certified = Arc::new(CertifiedKey::from_der(chain, key, &CRYPTO)?);
        let material = Material { certified, roots };
        material.verify(name)?;
        Ok(material)
    }

    /// The same certificate under other roots; no matter whether it chains to them, which is for our peers to judge.
    pub fn with_roots(&self, roots: Arc<RootCertStore>) -> Material {
        Material { certified: self.certified.clone(), roots }
    }

    /// Whether peers with our roots would believe us, now and in both roles.
    pub fn verify(&self, name: &str) -> Result<(), Error> {
        let [leaf, intermediates @ ..] = self.certified.cert.as_slice() else {
            return Err(Error::NoCertificatesPresented);
        };
        let server_name = ServerName::try_from(name).map_err(|error| Error::General(error.to_string()))?;
        let now = UnixTime::now();
        servers(&self.roots)?.verify_server_cert(leaf, intermediates, &server_name, &[], now)?;
        clients(&self.roots)?.verify_client_cert(leaf, intermediates, now)?;
        Ok(())
    }

    /// Accepts peers with and without a certificate.
    pub fn server(&self) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(CRYPTO.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(clients(&self.roots)?))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified.clone())));
        config.alpn_protocols = vec![mesh_api::names::TRANSPORT_ALPN.to_vec(), H2.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Connects with our certificate, offering `alpn`.
    pub fn client(&self, alpn: &[&[u8]]) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(CRYPTO.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(servers(&self.roots)?))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified.clone())));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// Connects without a certificate: for the first request to the signer.
pub fn anonymous_client(roots: &Arc<RootCertStore>) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(CRYPTO.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(servers(roots)?))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn clients(roots: &Arc<RootCertStore>) -> Result<Clients, Error> {
    Clients::new(roots.clone(), CRYPTO.clone()).map_err(|error| Error::General(error.to_string()))
}

fn servers(roots: &Arc<RootCertStore>) -> Result<Servers, Error> {
    Servers::new(roots.clone(), CRYPTO.clone()).map_err(|error| Error::General(error.to_string()))
}
