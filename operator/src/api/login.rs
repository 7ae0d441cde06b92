//! Who asks, and what they may see. On a cluster everybody shows a token and sees the namespaces whose Pods they may get: the API
//! server is asked both, and its answers are believed for a minute, those that refuse for some seconds. Standalone, who reaches the
//! port may see everything.

use super::{refusal::Refusal, sight::Sight};
use crate::rate::{Limiter, Peer};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use mesh_api::names;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time};

#[derive(Debug)]
pub enum Login {
    Open,
    Cluster(Box<Reviews>),
}

/// What one may see.
#[derive(Clone, Debug)]
pub struct Seen {
    pub sight: Sight,
    /// When a stream ends, and has to be asked for anew.
    pub until: Option<Instant>,
}

/// An answer of the API server is believed for this long.
const BELIEVED: Duration = Duration::from_secs(60);
/// A refusal is believed for a shorter time: a right that was just given is waited for.
const REFUSED: Duration = Duration::from_secs(5);
/// A stream goes on for so long after somebody has lost a right.
const STREAM: Duration = Duration::from_secs(600);
/// All questions about one token together.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Anybody can make us ask; no flood of rubbish becomes one on the API server. Who waits longer than `TIMEOUT` asks again.
const LOGINS_AT_ONCE: usize = 8;
/// How often one host may show a token that is not remembered: each is questions to the API server. An ingress brings all of its users
/// from one address, and each of them is asked about once a minute.
const KNOCKS: u32 = 100;
const KNOCKS_PER_SECOND: u32 = 20;
/// Namespaces that are asked about at the same time.
const QUESTIONS_AT_ONCE: usize = 16;
/// Tokens whose sight is remembered, and as many of which nothing is to be seen.
const MAX_KNOWN: usize = 1_000;

pub struct Reviews {
    tokens: Api<TokenReview>,
    accesses: Api<SubjectAccessReview>,
    under_way: Semaphore,
    knocks: Limiter<Peer>,
    known: Remembered<Sight>,
    /// Apart, so that no flood of rubbish takes the places of those who see something.
    refused: Remembered<Refusal>,
}

/// Of a token: the token itself is nothing to keep.
type Key = [u8; 32];

/// Answers, and until when they are believed.
struct Remembered<T>(Mutex<HashMap<Key, (T, Instant)>>);

impl<T: Clone> Remembered<T> {
    fn new() -> Remembered<T> {
        Remembered(Mutex::default())
    }

    fn get(&self, key: &Key, now: Instant) -> Option<T> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(_, until)| *until > now).map(|(answer, _)| answer.clone())
    }

    /// Where there is no room, the API server is asked again.
    fn put(&self, key: Key, answer: T, now: Instant, believed: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() < MAX_KNOWN {
            known.insert(key, (answer, now + believed));
        }
    }
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}

impl Login {
    pub fn cluster(client: Client) -> Login {
        Login::Cluster(Box::new(Reviews {
            tokens: Api::all(client.clone()),
            accesses: Api::all(client),
            under_way: Semaphore::new(LOGINS_AT_ONCE),
            knocks: Limiter::new(KNOCKS, KNOCKS_PER_SECOND),
            known: Remembered::new(),
            refused: Remembered::new(),
        }))
    }

    /// `namespaces` are all that there is to see.
    pub async fn seen(
        &self,
        headers: &HeaderMap,
        namespaces: BTreeSet<String>,
        peer: Peer,
    ) -> Result<Seen, Refusal> {
        match self {
            Login::Open => Ok(Seen { sight: Sight::All, until: None }),
            Login::Cluster(reviews) => {
                let sight = reviews.sight(bearer(headers)?, namespaces, peer).await?;
                Ok(Seen { sight, until: Some(Instant::now() + STREAM) })
            }
        }
    }
}

impl Reviews {
    async fn sight(&self, token: &str, namespaces: BTreeSet<String>, peer: Peer) -> Result<Sight, Refusal> {
        let key: Key = Sha256::digest(token).into();
        let now = Instant::now();
        if let Some(sight) = self.known.get(&key, now) {
            return Ok(sight);
        }
        if let Some(refusal) = self.refused.get(&key, now) {
            return Err(refusal);
        }
        if !self.knocks.allow(peer, now) {
            return Err(Refusal::too_many("too many new tokens from there: try again in a second"));
        }
        let asked = time::timeout(TIMEOUT, async {
            let _permit = self.under_way.acquire().await.expect("it is never closed");
            self.ask(token, namespaces).await
        });
        let answer = asked.await.map_err(|_| Refusal::busy("the API server is slow: try again"))?;
        match &answer {
            Ok(sight) => self.known.put(key, sight.clone(), now, BELIEVED),
            // That it could not be asked says nothing of the token.
            Err(refusal) if refusal.status == StatusCode::SERVICE_UNAVAILABLE => {}
            Err(refusal) => self.refused.put(key, refusal.clone(), now, REFUSED),
        }
        answer
    }

    async fn ask(&self, token: &str, namespaces: BTreeSet<String>) -> Result<Sight, Refusal> {
        let user = self.user(token).await?;
        if self.may_see(&user, None).await? {
            return Ok(Sight::All);
        }
        let seen = stream::iter(namespaces).map(|namespace| {
            let user = &user;
            async move { Ok::<_, Refusal>(self.may_see(user, Some(&namespace)).await?.then_some(namespace)) }
        });
        let seen = seen.buffer_unordered(QUESTIONS_AT_ONCE).try_filter_map(async |seen| Ok(seen));
        let seen: BTreeSet<String> = seen.try_collect().await?;
        if seen.is_empty() {
            let name = user.username.unwrap_or_default();
            return Err(Refusal::forbidden(format!("{name} may not get Pods in any namespace of the mesh")));
        }
        Ok(Sight::Only(Arc::new(seen)))
    }

    /// Whose token it is: one for us alone, as `mesh` asks for where there is none, or one that is good for the API server.
    async fn user(&self, token: &str) -> Result<UserInfo, Refusal> {
        for audience in [Some(names::VIEWER_AUDIENCE), None] {
            let review = TokenReview {
                spec: TokenReviewSpec {
                    audiences: audience.map(|audience| vec![audience.into()]),
                    token: Some(token.into()),
                },
                ..TokenReview::default()
            };
            let answer = self.tokens.create(&PostParams::default(), &review).await.map_err(unavailable)?;
            let Some(status) = answer.status else { continue };
            // An API server that knows nothing of audiences names none.
            let for_us = audience.is_none_or(|audience| {
                status.audiences.iter().flatten().any(|of_token| of_token == audience)
            });
            if let (Some(true), true, Some(user)) = (status.authenticated, for_us, status.user) {
                return Ok(user);
            }
        }
        Err(unauthorized("the API server does not know this token, or no longer"))
    }

    /// In one namespace, or in all.
    async fn may_see(&self, user: &UserInfo, namespace: Option<&str>) -> Result<bool, Refusal> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username.clone(),
                groups: user.groups.clone(),
                uid: user.uid.clone(),
                extra: user.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some("get".into()),
                    resource: Some("pods".into()),
                    version: Some("v1".into()),
                    namespace: namespace.map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = self.accesses.create(&PostParams::default(), &review).await.map_err(unavailable)?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(unauthorized(
            "`mesh dashboard` and all other commands show your token; others send `Authorization: Bearer`",
        ));
    };
    let token = value.to_str().ok().and_then(|value| value.split_once(' '));
    let token = token.filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty());
    token.map(|(_, token)| token).ok_or_else(|| unauthorized("the Authorization header is no bearer's"))
}

fn unauthorized(why: &str) -> Refusal {
    Refusal { status: StatusCode::UNAUTHORIZED, error: format!("nobody knows who you are: {why}") }
}

/// What is not known is not allowed.
fn unavailable(error: kube::Error) -> Refusal {
    tracing::warn!(%error, "the API server cannot say what somebody may see");
    Refusal::busy("the API server cannot say what you may see: try again")
}

#[cfg(test)]
pub mod tests;
