//! Tokens and rights, as an API server by script judges them.

use super::{Login, Seen};
use crate::{api::sight::Sight, cluster::testing::ApiServer, rate::Peer};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESSES: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Knows the tokens `admin`, `alice`, `nobody` and, for our audience alone, `viewer`. Alice may see two namespaces.
pub fn server() -> ApiServer {
    let server = ApiServer::new(&[]);
    server.decide(TOKENS, |review| {
        let token = review["spec"]["token"].as_str().unwrap();
        let ours = review["spec"]["audiences"] == json!(["api.mesh.dev"]);
        let known = if ours { token == "viewer" } else { ["admin", "alice", "nobody"].contains(&token) };
        let audiences = if ours { json!(["api.mesh.dev"]) } else { json!(["https://kubernetes"]) };
        let user = json!({"username": token, "groups": ["people"]});
        answered(review, json!({"authenticated": known, "audiences": audiences, "user": user}))
    });
    server.decide(ACCESSES, |review| {
        let spec = &review["spec"];
        let attributes = &spec["resourceAttributes"];
        assert_eq!((&attributes["verb"], &attributes["resource"]), (&json!("get"), &json!("pods")));
        assert_eq!(spec["groups"], json!(["people"]));
        let allowed = match spec["user"].as_str() {
            Some("admin" | "viewer") => true,
            Some("alice") => ["shop", "till"].map(Some).contains(&attributes["namespace"].as_str()),
            _ => false,
        };
        answered(review, json!({"allowed": allowed}))
    });
    server
}

fn answered(review: &Value, status: Value) -> Value {
    let mut answer = review.clone();
    answer["status"] = status;
    answer
}

async fn seen(login: &Login, authorization: &[&str]) -> Result<Sight, StatusCode> {
    seen_from(Peer::Unknown, login, authorization).await
}

async fn seen_from(peer: Peer, login: &Login, authorization: &[&str]) -> Result<Sight, StatusCode> {
    let mut headers = HeaderMap::new();
    for value in authorization {
        headers.append(header::AUTHORIZATION, value.parse().unwrap());
    }
    let namespaces = ["bank", "shop", "till"].map(str::to_owned).into();
    let seen = login.seen(&headers, namespaces, peer).await;
    seen.map(|Seen { sight, .. }| sight).map_err(|refusal| refusal.status)
}

fn only(namespaces: &[&str]) -> Sight {
    Sight::Only(Arc::new(namespaces.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>()))
}

#[tokio::test]
async fn everybody_sees_the_namespaces_whose_pods_they_may_get() {
    let login = Login::cluster(server().client());
    for (authorization, expected) in [
        (&["Bearer admin"][..], Ok(Sight::All)),
        (&["Bearer viewer"], Ok(Sight::All)),
        (&["bearer alice"], Ok(only(&["shop", "till"]))),
        (&["Bearer nobody"], Err(StatusCode::FORBIDDEN)),
        (&["Bearer stranger"], Err(StatusCode::UNAUTHORIZED)),
        (&["Bearer "], Err(StatusCode::UNAUTHORIZED)),
        (&["Basic YWRtaW46"], Err(StatusCode::UNAUTHORIZED)),
        (&["Bearer admin", "Bearer alice"], Err(StatusCode::UNAUTHORIZED)),
        (&[], Err(StatusCode::UNAUTHORIZED)),
    ] {
        assert_eq!(seen(&login, authorization).await, expected, "{authorization:?}");
    }
    assert_eq!(seen(&Login::Open, &[]).await, Ok(Sight::All));
}

#[tokio::test]
async fn a_token_for_us_counts_only_where_the_api_server_knows_audiences() {
    let server = server();
    server.decide(TOKENS, |review| {
        let good = !review["spec"]["audiences"].is_null();
        answered(review, json!({"authenticated": good, "user": {"username": "admin"}}))
    });
    assert_eq!(seen(&Login::cluster(server.client()), &["Bearer x"]).await, Err(StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn an_answer_is_believed_for_a_while_and_without_one_nobody_sees_anything() {
    let server = server();
    let login = Login::cluster(server.client());
    assert_eq!(seen(&login, &["Bearer alice"]).await, Ok(only(&["shop", "till"])));
    server.away(Some(503));
    assert_eq!(seen(&login, &["Bearer alice"]).await, Ok(only(&["shop", "till"])));
    assert_eq!(seen(&login, &["Bearer admin"]).await, Err(StatusCode::SERVICE_UNAVAILABLE));
}

/// Whatever token is shown, the API server is asked twice before it is refused.
fn who_counts() -> (Login, Arc<AtomicUsize>) {
    let (server, asked) = (server(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    server.decide(TOKENS, move |review| {
        count.fetch_add(1, Relaxed);
        let known = review["spec"]["audiences"].is_null() && review["spec"]["token"] == "admin";
        answered(review, json!({"authenticated": known, "user": {"username": "admin", "groups": ["people"]}}))
    });
    (Login::cluster(server.client()), asked)
}

#[tokio::test]
async fn a_flood_of_rubbish_is_no_flood_of_questions_and_harms_nobody_who_is_known() {
    let (login, asked) = who_counts();
    let [flood, other] = ["10.0.0.1", "10.0.0.2"].map(|ip| Peer::Host(ip.parse().unwrap()));
    assert_eq!(seen_from(flood, &login, &["Bearer admin"]).await, Ok(Sight::All));
    asked.store(0, Relaxed);
    let mut refused = 0;
    for i in 0..1_000 {
        match seen_from(flood, &login, &[&format!("Bearer rubbish-{i}")]).await {
            Err(StatusCode::UNAUTHORIZED) => refused += 1,
            answer => assert_eq!(answer, Err(StatusCode::TOO_MANY_REQUESTS)),
        }
    }
    assert!(refused < 900, "{refused} were asked about");
    assert_eq!(asked.load(Relaxed), 2 * refused);
    assert_eq!(seen_from(flood, &login, &["Bearer admin"]).await, Ok(Sight::All), "is remembered");
    assert_eq!(
        seen_from(other, &login, &["Bearer new"]).await,
        Err(StatusCode::UNAUTHORIZED),
        "is asked about"
    );
}

#[tokio::test]
async fn a_refusal_is_believed_too_and_no_answer_is_none() {
    let (login, asked) = who_counts();
    for _ in 0..3 {
        assert_eq!(seen(&login, &["Bearer rubbish"]).await, Err(StatusCode::UNAUTHORIZED));
    }
    assert_eq!(asked.load(Relaxed), 2);
    let server = server();
    let login = Login::cluster(server.client());
    server.away(Some(503));
    assert_eq!(seen(&login, &["Bearer admin"]).await, Err(StatusCode::SERVICE_UNAVAILABLE));
    server.away(None);
    assert_eq!(seen(&login, &["Bearer admin"]).await, Ok(Sight::All));
}
