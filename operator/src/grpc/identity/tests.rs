//! What gets no certificate, by a scripted API server: each refusal with its reason and its count.

use super::*;
use crate::{
    ca,
    cluster::{review::Reviewer, testing::ApiServer},
};
use mesh_policy::Settings;
use serde_json::{Value, json};
use std::time::Duration;
use tonic::Code;

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const WEB: &str = "web.shop.serviceaccount.identity.mesh.cluster.local";
const CART: &str = "cart.shop.serviceaccount.identity.mesh.cluster.local";

struct Signer {
    server: ApiServer,
    certifier: Certifier,
    asked_for: Arc<Certificates>,
}

impl Signer {
    fn new() -> Signer {
        let server = ApiServer::new(&[]);
        let now = SystemTime::now();
        let keys = ca::Keys::generate("cluster.local", now).unwrap();
        let authority = Authority::new(&keys, Duration::from_secs(3600), now).unwrap();
        let accounts = Accounts::Reviews(Arc::new(Reviewer::new(server.client())));
        let asked_for = Arc::new(Certificates::default());
        let certifier = Certifier::new(
            watch::channel(Arc::new(authority)).1,
            accounts,
            Settings::default().identities(),
            asked_for.clone(),
        );
        Signer { server, certifier, asked_for }
    }

    /// What the API server says of every token from now on.
    fn tokens_are(&self, status: Value) {
        self.server.reply(REVIEWS, json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": {}, "status": status}));
    }

    /// They prove to be `shop/web` in a Pod.
    fn tokens_are_of(&self, pod: &str) {
        self.tokens_are(json!({
            "authenticated": true,
            "audiences": ["identity.mesh.dev"],
            "user": {
                "username": "system:serviceaccount:shop:web",
                "extra": {"authentication.kubernetes.io/pod-uid": [pod]},
            },
        }));
    }

    async fn ask(&self, identity: &str, request: &[u8]) -> Result<(), Status> {
        let request = CertifyRequest {
            identity: identity.into(),
            token: b"token".to_vec(),
            certificate_signing_request: request.to_vec(),
        };
        Identity::certify(&self.certifier, Request::new(request)).await.map(drop)
    }

    async fn is_refused(&self, identity: &str, request: &[u8], words: &str, cause: &str) {
        let status = self.ask(identity, request).await.expect_err(cause);
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains(words), "{status}");
        let counted = format!("mesh_identity_refusals_total{{cause=\"{cause}\"}} 1\n");
        let exposition = self.asked_for.exposition();
        assert!(exposition.contains(&counted), "{exposition}");
    }
}

fn signing_request(name: &str) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[tokio::test]
async fn tokens_that_prove_nothing_get_no_certificate() {
    let signer = Signer::new();
    for (error, cause) in [
        (
            r#"token audiences ["https://kubernetes.default.svc"] is invalid for the target audiences ["identity.mesh.dev"]"#,
            "token_audience",
        ),
        ("[invalid bearer token, service account token has expired]", "token_expired"),
        ("[invalid bearer token, service account token has been invalidated]", "token_gone"),
        ("[invalid bearer token, square/go-jose: error in cryptographic primitive]", "token_invalid"),
    ] {
        signer.tokens_are(json!({"authenticated": false, "error": error}));
        signer.is_refused(WEB, &signing_request(WEB), error, cause).await;
    }
}

#[tokio::test]
async fn nobody_gets_a_name_that_is_not_the_tokens() {
    let signer = Signer::new();
    signer.tokens_are_of("pod");
    signer.is_refused(CART, &signing_request(CART), WEB, "other_identity").await;
    let status = signer.ask(WEB, &signing_request(CART)).await.unwrap_err();
    assert!(status.message().contains("not the identity asked for"), "{status}");
}

#[tokio::test]
async fn a_request_that_another_pod_has_sent_is_of_no_use() {
    let signer = Signer::new();
    let request = signing_request(WEB);
    signer.tokens_are_of("pod");
    signer.ask(WEB, &request).await.unwrap();
    signer.ask(WEB, &request).await.expect("its own, again: the answer may have been lost");
    signer.tokens_are_of("other");
    signer.is_refused(WEB, &request, "another Pod", "request_replayed").await;
    signer.ask(WEB, &signing_request(WEB)).await.expect("a key of its own");
}

#[tokio::test]
async fn an_api_server_that_is_away_is_not_a_refusal_for_good() {
    let signer = Signer::new();
    signer.server.away(Some(503));
    let status = signer.ask(WEB, &signing_request(WEB)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    signer.server.away(None);
    signer.tokens_are_of("pod");
    signer.ask(WEB, &signing_request(WEB)).await.unwrap();
}

#[tokio::test]
async fn a_host_that_shows_token_after_token_is_held_off_before_anybody_is_asked() {
    let signer = Signer::new();
    signer.tokens_are(json!({"authenticated": false, "error": "no token"}));
    let request = signing_request(WEB);
    let mut shown = 0;
    // Some more are allowed by the time that these take.
    while signer.ask(WEB, &request).await.unwrap_err().code() == Code::FailedPrecondition {
        shown += 1;
        assert!(shown < 100 * KNOCKS, "it is never held off");
    }
    assert!(shown >= KNOCKS, "{shown}");
}
