//! What a Pod's proxy really shows: connects to it as a peer without a certificate would, and reads the chain. Whether the mesh would
//! believe it is said beside; here it is looked at in any case.

use super::{
    identities::left_s,
    refusal::{Refusal, quoted},
};
use crate::ca::{self, Authority};
use mesh_api::{
    identities::{Certificate, Served},
    names,
};
use mesh_policy::Tables;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{net::TcpStream, time};
use tokio_rustls::TlsConnector;
use x509_parser::{extensions::GeneralName, public_key::PublicKey};

/// Connection and handshake.
const PATIENCE: Duration = Duration::from_secs(3);

/// Only Pods of the mesh are asked, at their proxy's port: nobody sends us elsewhere.
pub async fn served(
    tables: &Tables,
    authority: &Authority,
    namespace: &str,
    name: &str,
    now_ms: u64,
) -> Result<Served, Refusal> {
    let object = format!("{namespace}/{name}");
    let pod = tables
        .pod(namespace, name)
        .ok_or_else(|| Refusal::not_found(format!("no Pod {}", quoted(&object))))?;
    let identity =
        pod.identity.as_deref().ok_or_else(|| Refusal::not_found(format!("Pod {object} is not meshed")))?;
    let ip = pod.ips.first().ok_or_else(|| Refusal::not_found(format!("Pod {object} has no address")))?;
    let addr = SocketAddr::new(*ip, names::INBOUND_PORT);
    let chain = match time::timeout(PATIENCE, shown(addr, identity)).await {
        Ok(Ok(chain)) => chain,
        Ok(Err(error)) => return Err(Refusal::busy(format!("Pod {object} at {addr}: {error:#}"))),
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            return Err(Refusal::busy(format!("Pod {object} at {addr}: no answer within {seconds} s")));
        }
    };
    let problem = verify(&chain, authority, identity).err().map(|error| format!("{error:#}"));
    Ok(Served {
        chain: chain.iter().map(|der| certificate(der, now_ms)).collect(),
        problem: problem.unwrap_or_default(),
    })
}

async fn shown(addr: SocketAddr, identity: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let tcp = TcpStream::connect(addr).await?;
    let tls =
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(identity.to_owned())?, tcp).await?;
    Ok(tls.get_ref().1.peer_certificates().unwrap_or_default().to_vec())
}

/// As a peer of the mesh would.
fn verify(chain: &[CertificateDer<'_>], authority: &Authority, identity: &str) -> anyhow::Result<()> {
    let [leaf, intermediates @ ..] = chain else { anyhow::bail!("there is no certificate") };
    let roots = ca::roots(authority.trust_anchors_pem())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build()?;
    verifier.verify_server_cert(
        leaf,
        intermediates,
        &ServerName::try_from(identity)?,
        &[],
        UnixTime::now(),
    )?;
    Ok(())
}

fn certificate(der: &CertificateDer<'_>, now_ms: u64) -> Certificate {
    let digest = Sha256::digest(der);
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let unread = Certificate {
        subject: "cannot be read".into(),
        names: vec![],
        issuer: String::new(),
        serial: String::new(),
        not_before: String::new(),
        not_after: String::new(),
        left_s: 0,
        key: String::new(),
        sha256,
    };
    let Ok((_, read)) = x509_parser::parse_x509_certificate(der) else { return unread };
    let alternatives = read.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|names| &names.value.general_names).map(|name| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => other.to_string(),
    });
    let ends_s = u64::try_from(read.validity().not_after.timestamp()).unwrap_or(0);
    Certificate {
        subject: read.subject().to_string(),
        names: names.collect(),
        issuer: read.issuer().to_string(),
        serial: read.raw_serial_as_string(),
        not_before: written(read.validity().not_before.timestamp()),
        not_after: written(read.validity().not_after.timestamp()),
        left_s: left_s(SystemTime::UNIX_EPOCH + Duration::from_secs(ends_s), now_ms),
        key: match read.public_key().parsed() {
            Ok(PublicKey::EC(point)) => format!("ECDSA, {} bits", point.key_size()),
            Ok(PublicKey::RSA(key)) => format!("RSA, {} bits", key.key_size()),
            Ok(_) | Err(_) => "of another kind".into(),
        },
        ..unread
    }
}

fn written(seconds: i64) -> String {
    k8s_openapi::jiff::Timestamp::from_second(seconds).map(|at| at.to_string()).unwrap_or_default()
}

/// Looks at whatever it is shown; that the peer has the key is proved all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ca::Keys,
        cluster::leaf::{self, Peers},
    };
    use tokio::{net::TcpListener, sync::watch};
    use tokio_rustls::TlsAcceptor;

    const WEB: &str = "web.shop.serviceaccount.identity.mesh.cluster.local";

    #[tokio::test]
    async fn the_chain_is_shown_whether_it_is_believed_or_not() {
        let now = SystemTime::now();
        let [ours, other] = [(); 2].map(|()| {
            let keys = Keys::generate("cluster.local", now).unwrap();
            Arc::new(Authority::new(&keys, Duration::from_secs(3600), now).unwrap())
        });
        let (_keep, authority) = watch::channel(ours.clone());
        let config = leaf::start(authority, WEB.into(), Peers::ApiServer).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(config.borrow().clone());
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            acceptor.accept(tcp).await.map(drop)
        });
        let chain = shown(addr, WEB).await.unwrap();
        verify(&chain, &ours, WEB).unwrap();
        assert!(verify(&chain, &other, WEB).is_err());
        assert!(verify(&chain, &ours, "cart.shop.serviceaccount.identity.mesh.cluster.local").is_err());
        let [own, issuer] = &chain[..] else { panic!("its own and the issuer's") };
        let own = certificate(own, crate::telemetry::now_ms());
        assert_eq!((&*own.names, own.key.as_str()), (&[WEB.to_owned()][..], "ECDSA, 256 bits"));
        assert_eq!(own.issuer, certificate(issuer, 0).subject);
        assert!((3_500..=3_600).contains(&own.left_s), "{}", own.left_s);
    }
}
