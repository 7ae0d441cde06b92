//! Whose token it is, asked of the API server: it knows whether the token is genuine, for us, still valid, and of a Pod that is
//! still there.

use crate::accounts::{Account, Doubt};
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

    pub async fn account(&self, token: &[u8]) -> Result<Account, Doubt> {
        let token = std::str::from_utf8(token).map_err(|_| Doubt::Refused(": it is no text".into()))?;
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
fn proven(status: TokenReviewStatus) -> Result<Account, Doubt> {
    let refused = |why: &str| Err(Doubt::Refused(format!(": {why}")));
    if status.authenticated != Some(true) {
        // The API server's reason may quote the token's claims, but never the token.
        return refused(status.error.as_deref().unwrap_or("it is not valid"));
    }
    if !status.audiences.iter().flatten().any(|audience| audience == names::TOKEN_AUDIENCE) {
        return refused("it is for another audience");
    }
    let Some(user) = status.user else { return refused("it has no user") };
    let bound = user.extra.iter().flatten().any(|(key, _)| key == "authentication.kubernetes.io/pod-uid");
    if !bound {
        return refused("it is not bound to a Pod (is it the one of a projected volume?)");
    }
    let name = user.username.as_deref().unwrap_or_default();
    match name.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':')) {
        Some((namespace, name)) => Ok(Account { namespace: namespace.into(), name: name.into() }),
        None => refused("its user is none"),
    }
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
        let web = Account { namespace: "shop".into(), name: "web".into() };
        assert_eq!(proven(status(|_| {})), Ok(web));
        for (change, wanted) in [
            (json!({"authenticated": false, "error": "token has expired"}), "expired"),
            (json!({"authenticated": null}), "not valid"),
            (json!({"audiences": ["https://kubernetes.default.svc"]}), "another audience"),
            (json!({"audiences": null}), "another audience"),
            (json!({"user": null}), "no user"),
            (json!({"user": {"username": "system:serviceaccount:shop:web"}}), "not bound"),
            (
                json!({"user": {"username": "alice", "extra": {"authentication.kubernetes.io/pod-uid": ["1"]}}}),
                "is none",
            ),
        ] {
            let changed = status(|status| {
                for (key, value) in change.as_object().unwrap() {
                    status[key] = value.clone();
                }
            });
            let doubt = proven(changed).unwrap_err();
            assert!(matches!(&doubt, Doubt::Refused(why) if why.contains(wanted)), "{change}: {doubt}");
        }
    }
}
