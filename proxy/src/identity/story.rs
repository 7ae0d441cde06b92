//! The whole of identity against a signer that a test scripts: first certificate, retries, renewal, new trust anchors, and the
//! TLS connection to a signer that is not on loopback.

use super::Credentials;
use crate::{
    config::{Config, HostPort, Security},
    ready::Ready,
    tls::{
        configs::Material,
        peer_identity,
        testing::{Authority, Leaf},
    },
};
use linkerd2_proxy_api::identity::{
    CertifyRequest, CertifyResponse,
    identity_server::{Identity, IdentityServer},
};
use std::{
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::{self, LocalSet},
    time,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

const WEB: &str = "web.demo.serviceaccount.identity.mesh.cluster.local";
const OPERATOR: &str = "mesh-operator.mesh.serviceaccount.identity.mesh.cluster.local";

type Answer = oneshot::Sender<Result<CertifyResponse, Status>>;

struct Signer(mpsc::UnboundedSender<(CertifyRequest, Answer)>);

#[tonic::async_trait]
impl Identity for Signer {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let (answer, answered) = oneshot::channel();
        self.0.send((request.into_inner(), answer)).map_err(|_| Status::unavailable("the test has ended"))?;
        answered.await.map_err(|_| Status::unavailable("the test gave no answer"))?.map(Response::new)
    }
}

struct Story {
    dir: tempfile::TempDir,
    signer: SocketAddr,
    asked: mpsc::UnboundedReceiver<(CertifyRequest, Answer)>,
    ready: Ready,
}

fn tell<F: Future>(story: impl FnOnce(Story) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let signer = listener.local_addr().unwrap();
        let (questions, asked) = mpsc::unbounded_channel();
        let service = IdentityServer::new(Signer(questions));
        tokio::spawn(
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let story =
            story(Story { dir: tempfile::tempdir().unwrap(), signer, asked, ready: Ready::default() });
        time::timeout(Duration::from_secs(30), story).await.expect("the story ends");
    });
}

impl Story {
    fn config(&self) -> Config {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let get = |name: &str| {
            Some(match name.strip_prefix("MESH_PROXY_")? {
                "OPERATOR_ADDR" => self.signer.to_string(),
                "IDENTITY_LOCAL_NAME" => WEB.to_owned(),
                "IDENTITY_TOKEN_FILE" => file("token"),
                "IDENTITY_TRUST_ANCHORS_FILE" => file("anchors.pem"),
                "IDENTITY_MIN_REFRESH" => "0s".to_owned(),
                "POLICY_WORKLOAD" => "demo:web-0".to_owned(),
                _ => return None,
            })
        };
        Config::from_env(&get, &[]).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.dir.path().join(name), text);
    }

    fn start(&self) -> watch::Receiver<Option<Arc<Credentials>>> {
        super::start(&self.config(), &self.ready, &worker())
    }

    async fn asked(&mut self) -> (CertifyRequest, Answer) {
        self.asked.recv().await.unwrap()
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn sign(ca: &Authority, request: &CertifyRequest, life: Duration) -> Result<CertifyResponse, Status> {
    let leaf = Leaf { not_after: SystemTime::now() + life, ..Leaf::named(&request.identity) };
    Ok(CertifyResponse {
        valid_until: Some(leaf.not_after.into()),
        leaf_certificate: ca.sign(&request.certificate_signing_request, leaf).to_vec(),
        intermediate_certificates: vec![],
    })
}

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn not_ready_until_the_signer_agrees() {
    tell(|mut story| async move {
        let ca = Authority::default();
        story.write("anchors.pem", &ca.pem());
        let mut credentials = story.start();
        // There is no token yet, so nothing is asked; what comes first has the token.
        assert_eq!(story.ready.pending(), ["identity"]);
        task::yield_now().await;
        story.write("token", "first\n");
        let (request, answer) = story.asked().await;
        assert_eq!((request.identity.as_str(), request.token.as_slice()), (WEB, b"first".as_slice()));
        answer.send(Err(Status::unavailable("starting"))).unwrap();
        let (request, answer) = story.asked().await;
        answer.send(sign(&Authority::default(), &request, HOUR)).unwrap();
        // Signed by another authority: as good as no answer.
        let (request, answer) = story.asked().await;
        assert_eq!(story.ready.pending(), ["identity"]);
        answer.send(sign(&ca, &request, HOUR)).unwrap();
        credentials.wait_for(Option::is_some).await.unwrap();
        assert!(story.ready.is_ready());
    });
}

#[test]
fn renewed_before_the_end_with_the_token_of_that_day() {
    tell(|mut story| async move {
        let ca = Authority::default();
        story.write("anchors.pem", &ca.pem());
        story.write("token", "first");
        let mut credentials = story.start();
        let (request, answer) = story.asked().await;
        answer.send(sign(&ca, &request, Duration::from_secs(3))).unwrap();
        let first = credentials.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        credentials.mark_unchanged();
        story.write("token", "second");
        let (renewal, answer) = story.asked().await;
        assert!(SystemTime::now() < first.expires);
        assert_eq!(renewal.token, b"second");
        assert_ne!(
            renewal.certificate_signing_request, request.certificate_signing_request,
            "a new key each time"
        );
        // A refusal keeps what there is.
        answer.send(Err(Status::failed_precondition("no"))).unwrap();
        let (renewal, answer) = story.asked().await;
        assert!(!credentials.has_changed().unwrap());
        answer.send(sign(&ca, &renewal, HOUR)).unwrap();
        credentials.changed().await.unwrap();
        assert!(credentials.borrow().as_ref().unwrap().expires > first.expires);
    });
}

#[test]
fn new_trust_anchors_are_taken_from_the_file() {
    tell(|mut story| async move {
        let (old, new) = (Authority::default(), Authority::default());
        story.write("anchors.pem", &old.pem());
        story.write("token", "token");
        let mut credentials = story.start();
        let (request, answer) = story.asked().await;
        answer.send(sign(&old, &request, HOUR)).unwrap();
        credentials.wait_for(Option::is_some).await.unwrap();
        credentials.mark_unchanged();
        story.write("anchors.pem", &format!("{}{}", old.pem(), new.pem()));
        credentials.changed().await.unwrap();
        credentials.mark_unchanged();
        // Both are believed, so nothing is asked until the old one goes; then at once.
        assert!(story.asked.try_recv().is_err());
        story.write("anchors.pem", &new.pem());
        let (request, answer) = story.asked().await;
        answer.send(sign(&new, &request, HOUR)).unwrap();
        credentials.mark_unchanged();
        credentials.changed().await.unwrap();
    });
}

#[test]
fn a_new_first_anchor_asks_for_a_certificate_under_it() {
    tell(|mut story| async move {
        let (old, new) = (Authority::default(), Authority::default());
        story.write("anchors.pem", &old.pem());
        story.write("token", "token");
        let mut credentials = story.start();
        let (request, answer) = story.asked().await;
        answer.send(sign(&old, &request, HOUR)).unwrap();
        let first = credentials.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        credentials.mark_unchanged();
        story.write("anchors.pem", &format!("{}{}", old.pem(), new.pem()));
        credentials.changed().await.unwrap();
        let both = credentials.borrow_and_update().clone().unwrap();
        assert_ne!(both.anchors, first.anchors, "what it tells the operator");
        assert!(story.asked.try_recv().is_err());
        story.write("anchors.pem", &format!("{}{}", new.pem(), old.pem()));
        let (request, answer) = story.asked().await;
        credentials.mark_unchanged();
        // Asked too early, say: the old one goes on, and nobody asks in a loop.
        answer.send(sign(&old, &request, HOUR)).unwrap();
        credentials.changed().await.unwrap();
        assert!(story.asked.try_recv().is_err());
        let (request, answer) = story.asked().await;
        credentials.mark_unchanged();
        answer.send(sign(&new, &request, HOUR)).unwrap();
        credentials.changed().await.unwrap();
    });
}

/// Passes connections on to the signer, and counts them.
async fn relay(signer: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, connections) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counted = connections.clone();
    task::spawn_local(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Relaxed);
            let mut signer = TcpStream::connect(signer).await.unwrap();
            task::spawn_local(async move { tokio::io::copy_bidirectional(&mut client, &mut signer).await });
        }
    });
    (addr, connections)
}

/// One replica of several may be cut off from the API server: the next connection may find another.
#[test]
fn a_signer_that_keeps_failing_is_left_for_another() {
    tell(|mut story| async move {
        let ca = Authority::default();
        story.write("anchors.pem", &ca.pem());
        story.write("token", "token");
        let (addr, connections) = relay(story.signer).await;
        story.signer = addr;
        let mut credentials = story.start();
        for _ in 0..3 {
            let (_, answer) = story.asked().await;
            assert_eq!(connections.load(Relaxed), 1);
            answer.send(Err(Status::unavailable("cut off"))).unwrap();
        }
        let (request, answer) = story.asked().await;
        assert_eq!(connections.load(Relaxed), 2);
        answer.send(sign(&ca, &request, HOUR)).unwrap();
        credentials.wait_for(Option::is_some).await.unwrap();
    });
}

/// Terminates TLS as `name` in front of the signer, and says who connected.
async fn front(
    ca: &Authority,
    name: &str,
    signer: SocketAddr,
) -> (SocketAddr, mpsc::UnboundedReceiver<Option<Arc<str>>>) {
    let (key, chain) = ca.issue(Leaf::named(name));
    let mut server = Material::new(name, key, chain, ca.roots()).unwrap().server().unwrap();
    server.alpn_protocols.clear();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (connected, clients) = mpsc::unbounded_channel();
    task::spawn_local(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(mut client) = acceptor.accept(client).await else { continue };
            let _ = connected.send(peer_identity(client.get_ref().1));
            let mut signer = TcpStream::connect(signer).await.unwrap();
            task::spawn_local(async move { tokio::io::copy_bidirectional(&mut client, &mut signer).await });
        }
    });
    (addr, clients)
}

#[test]
fn a_remote_signer_must_prove_its_name() {
    tell(|mut story| async move {
        let ca = Authority::default();
        story.write("anchors.pem", &ca.pem());
        story.write("token", "token");
        let (imposter, mut fooled) = front(&ca, WEB, story.signer).await;
        let (operator, mut clients) = front(&ca, OPERATOR, story.signer).await;
        let start = |addr: SocketAddr| {
            let mut config = story.config();
            config.control.identity.addr = HostPort { host: addr.ip().to_string(), port: addr.port() };
            config.control.identity.security = Security::Tls(OPERATOR.into());
            super::start(&config, &story.ready, &worker())
        };
        let _never = start(imposter);
        let mut credentials = start(operator);
        let (request, answer) = story.asked().await;
        answer.send(sign(&ca, &request, HOUR)).unwrap();
        credentials.wait_for(Option::is_some).await.unwrap();
        assert_eq!(clients.recv().await.unwrap(), None, "there is no certificate yet to show");
        assert!(fooled.try_recv().is_err() && story.asked.try_recv().is_err());
        // With credentials, the other services see who asks.
        let service = crate::config::Service {
            addr: HostPort { host: operator.ip().to_string(), port: operator.port() },
            security: Security::Tls(OPERATOR.into()),
        };
        let channel = crate::control::channel(&service, credentials, &worker());
        let mut client = linkerd2_proxy_api::identity::identity_client::IdentityClient::new(channel);
        let call = task::spawn_local(async move { client.certify(CertifyRequest::default()).await });
        let (_, answer) = story.asked().await;
        answer.send(Err(Status::permission_denied("only asking"))).unwrap();
        assert_eq!(call.await.unwrap().unwrap_err().code(), tonic::Code::PermissionDenied);
        assert_eq!(clients.recv().await.unwrap().as_deref(), Some(WEB));
    });
}

fn worker() -> crate::telemetry::Worker {
    crate::telemetry::Telemetry::new(0.0, false).0.worker()
}
