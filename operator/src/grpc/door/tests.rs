//! Over TLS: who has no certificate of the mesh gets one, and nothing else.

use crate::{
    accounts::Accounts,
    ca::{Authority, Keys, roots},
    cluster::leaf::{self, Peers},
    grpc::{Door, serve, services},
    standing::Standing,
    tokens::Tokens,
};
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use linkerd2_proxy_api::{
    destination::{GetDestination, destination_client::DestinationClient},
    identity::{CertifyRequest, identity_client::IdentityClient},
};
use mesh_policy::{Settings, Tables, World};
use rcgen::KeyPair;
use rustls::{ClientConfig, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Code, transport::Channel};

const OPERATOR: &str = "mesh-operator.mesh.serviceaccount.identity.mesh.cluster.local";

#[derive(Clone)]
struct Connector(SocketAddr, Arc<ClientConfig>);

impl tower_service::Service<http::Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let Connector(addr, config) = self.clone();
        Box::pin(async move {
            let tcp = TcpStream::connect(addr).await?;
            let name = ServerName::try_from(OPERATOR).expect("it is a name");
            TlsConnector::from(config).connect(name, tcp).await.map(TokioIo::new)
        })
    }
}

/// What a proxy connects with; `under`: the authority that signed its certificate.
fn client(trusted: &Authority, under: Option<&Authority>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots(trusted.trust_anchors_pem()).unwrap());
    let Some(under) = under else { return Arc::new(config.with_no_client_auth()) };
    let key = KeyPair::generate().unwrap();
    let leaf =
        under.issue("web.shop.serviceaccount.identity.mesh.cluster.local", &key, SystemTime::now()).unwrap();
    let mut chain = vec![CertificateDer::from(leaf.der)];
    chain.extend(leaf.intermediates.into_iter().map(CertificateDer::from));
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Arc::new(config.with_client_auth_cert(chain, key).unwrap())
}

fn authority() -> Arc<Authority> {
    let now = SystemTime::now();
    let keys = Keys::generate("cluster.local", now).unwrap();
    Arc::new(Authority::new(&keys, Duration::from_secs(3600), now).unwrap())
}

async fn ask(addr: SocketAddr, config: Arc<ClientConfig>) -> Result<Code, tonic::transport::Error> {
    let endpoint = Channel::from_static("http://operator");
    let channel = endpoint.connect_with_connector(Connector(addr, config)).await?;
    let question =
        GetDestination { path: "no.shop.svc.cluster.local:80".into(), ..GetDestination::default() };
    let certify =
        CertifyRequest { identity: "x".into(), token: b"x".into(), certificate_signing_request: b"x".into() };
    let refused = IdentityClient::new(channel.clone()).certify(certify).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "it is the token that is wrong");
    Ok(DestinationClient::new(channel).get(question).await.map(drop).unwrap_err().code())
}

#[tokio::test]
async fn only_callers_with_a_certificate_of_the_mesh_are_told_anything() {
    let (ours, other) = (authority(), authority());
    let state = tempfile::tempdir().unwrap();
    let tokens = Arc::new(Tokens::open(state.path()).unwrap());
    let tables = Arc::new(Tables::build(&World::default(), &Settings::default()));
    let (_tables, tables) = watch::channel(tables);
    let (_authority, authority) = watch::channel(ours.clone());
    let (_stop, stop) = watch::channel(false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let tls = leaf::start(authority.clone(), OPERATOR.into(), Peers::Proxies).unwrap();
    let (routes, _) =
        services(tables, authority, Accounts::Files(tokens), Arc::default(), Arc::default(), stop.clone());
    let standing = watch::channel(Standing::default()).1;
    tokio::spawn(serve(Door::Tls(listener, tls), routes, standing, stop));

    // Somebody who connects and says nothing holds up nobody.
    let _silent = TcpStream::connect(addr).await.unwrap();
    assert_eq!(ask(addr, client(&ours, None)).await.unwrap(), Code::Unauthenticated);
    assert_eq!(ask(addr, client(&ours, Some(&ours))).await.unwrap(), Code::NotFound, "no such Service");
    assert!(ask(addr, client(&other, None)).await.is_err(), "not who it should be");
    let stranger = tokio::time::timeout(Duration::from_secs(5), async {
        let channel = Channel::from_static("http://operator");
        let channel = channel.connect_with_connector(Connector(addr, client(&ours, Some(&other)))).await?;
        let question =
            GetDestination { path: "no.shop.svc.cluster.local:80".into(), ..GetDestination::default() };
        let answer = DestinationClient::new(channel).get(question).await;
        Ok::<_, tonic::transport::Error>(answer.map(drop).unwrap_err().code())
    });
    match stranger.await.unwrap() {
        Ok(code) => assert!(!matches!(code, Code::NotFound), "a certificate of others: {code:?}"),
        Err(_refused) => {}
    }
}
