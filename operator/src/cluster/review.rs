//! Whose token it is, asked of the API server: it knows whether the token is genuine, for us, still valid, and of a Pod that is
//! still there.

use crate::accounts::{Account, Bearer, Doubt, Fault};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use mesh_api::names;
use std::time::Duration;
use tokio::{sync::Semaphore, time};

/// Proxies give up after 5 s and ask again.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Anybody can make us ask; no flood of rubbish becomes a flood on the API server. Who waits longer than `TIMEOUT` asks again.
const AT_ONCE: usize = 16;

pub struct Reviewer {
    api: Api<TokenReview>,
    under_way: Semaphore,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").finish_non_exhaustive()
    }
}

impl Reviewer {
    pub fn new(client: Client) -> Reviewer {
        Reviewer { api: Api::all(client), under_way: Semaphore::new(AT_ONCE) }
    }

    pub async fn bearer(&self, token: &[u8]) -> Result<Bearer, Doubt> {
        let token = std::str::from_utf8(token)
            .map_err(|_| Doubt::Refused(Fault::Invalid, ": it is no text".into()))?;
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![names::TOKEN_AUDIENCE.into()]),
                token: Some(token.into()),
            },
            ..TokenReview::default()
        };
        let answer = time::timeout(TIMEOUT, async {
            let _permit = self.under_way.acquire().await.expect("it is never closed");
            self.api.create(&PostParams::default(), &review).await
        });
        let answer = answer.await.map_err(|_| Doubt::Unavailable("the API server is slow".into()))?;
        let answer = answer.map_err(|error| Doubt::Unavailable(error.to_string()))?;
        let status = answer.status.ok_or_else(|| Doubt::Unavailable("the answer has no status".into()))?;
        proven(status)
    }
}

/// Only a token for our audience, bound to a Pod: one that somebody made by hand, or that is good for the API server, is none.
fn proven(status: TokenReviewStatus) -> Result<Bearer, Doubt> {
    let refused = |fault: Fault, why: &str| Err(Doubt::Refused(fault, format!(": {why}")));
    if status.authenticated != Some(true) {
        // The API server's reason may quote the token's claims, but never the token.
        let why = status.error.as_deref().unwrap_or("it is not valid");
        return refused(fault(why), why);
    }
    if !status.audiences.iter().flatten().any(|audience| audience == names::TOKEN_AUDIENCE) {
        return refused(Fault::Audience, "it is for another audience");
    }
    let Some(user) = status.user else { return refused(Fault::Invalid, "it has no user") };
    let extra = user.extra.iter().flatten();
    let mut uids = extra.filter(|(key, _)| *key == "authentication.kubernetes.io/pod-uid");
    let Some(uid) = uids.find_map(|(_, uids)| uids.first()) else {
        return refused(Fault::Unbound, "it is not bound to a Pod (is it the one of a projected volume?)");
    };
    let name = user.username.as_deref().unwrap_or_default();
    match name.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':')) {
        Some((namespace, name)) => Ok(Bearer {
            account: Account { namespace: namespace.into(), name: name.into() },
            pod: Some(uid.clone()),
        }),
        None => refused(Fault::Invalid, "its user is none"),
    }
}

/// The API server says in words only what is wrong. Words that it has not used so far mean that it is invalid, which it is.
fn fault(why: &str) -> Fault {
    let rows = [
        ("target audiences", Fault::Audience),
        ("has expired", Fault::Expired),
        // Its Pod or account has been deleted, or was made anew under the same name.
        ("has been invalidated", Fault::Gone),
        ("does not match", Fault::Gone),
    ];
    rows.into_iter().find(|(words, _)| why.contains(words)).map_or(Fault::Invalid, |(_, fault)| fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(change: impl FnOnce(&mut serde_json::Value)) -> TokenReviewStatus {
        let mut status = json!({
            "authenticated": true,
            "audiences": ["identity.mesh.dev"],
            "user": {
                "username": "system:serviceaccount:shop:web",
                "extra": {"authentication.kubernetes.io/pod-uid": ["1-2"]},
            },
        });
        change(&mut status);
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn only_a_bound_token_for_us_proves_an_account() {
        let account = Account { namespace: "shop".into(), name: "web".into() };
        assert_eq!(proven(status(|_| {})), Ok(Bearer { account, pod: Some("1-2".into()) }));
        let uid = json!({"authentication.kubernetes.io/pod-uid": ["1"]});
        let denied = |error: &str| json!({"authenticated": false, "error": error});
        for (change, fault, wanted) in [
            (denied("[invalid bearer token, service account token has expired]"), Fault::Expired, "expired"),
            (denied("service account token has been invalidated"), Fault::Gone, "invalidated"),
            (denied("pod UID (1) does not match service account pod ref claim (2)"), Fault::Gone, "UID"),
            (
                denied(r#"token audiences ["x"] is invalid for the target audiences ["y"]"#),
                Fault::Audience,
                "audiences",
            ),
            (json!({"authenticated": null}), Fault::Invalid, "not valid"),
            (json!({"audiences": ["https://kubernetes.default.svc"]}), Fault::Audience, "another audience"),
            (json!({"audiences": null}), Fault::Audience, "another audience"),
            (json!({"user": null}), Fault::Invalid, "no user"),
            (json!({"user": {"username": "system:serviceaccount:shop:web"}}), Fault::Unbound, "not bound"),
            (json!({"user": {"username": "alice", "extra": uid}}), Fault::Invalid, "is none"),
        ] {
            let changed = status(|status| {
                for (key, value) in change.as_object().unwrap() {
                    status[key] = value.clone();
                }
            });
            let doubt = proven(changed).unwrap_err();
            let is_so =
                matches!(&doubt, Doubt::Refused(found, why) if *found == fault && why.contains(wanted));
            assert!(is_so, "{change}: {doubt:?}");
        }
    }
}
