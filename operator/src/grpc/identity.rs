//! `Identity.Certify`: a certificate for whoever proves by a token to be that service account.

use super::{
    refusal::{Cause, Certificates, Refusal},
    replay::Keys,
};
use crate::{
    accounts::{Accounts, Bearer},
    ca::{Authority, Csr},
    rate::{Limiter, Peer},
};
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse, identity_server::Identity};
use mesh_policy::Identities;
use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, async_trait};

/// A token file's content has 64 bytes; a cluster's JWT about 1 KB.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// Certificates that an identity may ask for at once, and in the long run.
const BURST: u32 = 100;
const PER_SECOND: u32 = 10;

/// How often one host may show a token: anybody can knock, and each token is a question to the API server. A node whose network
/// translates addresses starts its Pods from one.
const KNOCKS: u32 = 200;
const KNOCKS_PER_SECOND: u32 = 20;

#[derive(Debug)]
pub struct Certifier {
    /// The newest one signs.
    authority: watch::Receiver<Arc<Authority>>,
    accounts: Accounts,
    identities: Identities,
    /// By identity: all Pods of a service account share one bucket, and a rollout starts many at once.
    limiter: Limiter<String>,
    knocks: Limiter<Peer>,
    keys: Keys,
    asked_for: Arc<Certificates>,
}

impl Certifier {
    pub fn new(
        authority: watch::Receiver<Arc<Authority>>,
        accounts: Accounts,
        identities: Identities,
        asked_for: Arc<Certificates>,
    ) -> Certifier {
        let keys = Keys::new(authority.borrow().leaf_lifetime());
        let limiter = Limiter::new(BURST, PER_SECOND);
        let knocks = Limiter::new(KNOCKS, KNOCKS_PER_SECOND);
        Certifier { authority, accounts, identities, limiter, knocks, keys, asked_for }
    }

    /// The cheap checks come first, and nothing is signed before all of them hold: the token proves an account, the account's
    /// identity is the one asked for, and the request is for that name alone.
    async fn certify(
        &self,
        request: &CertifyRequest,
        peer: Peer,
        now: SystemTime,
    ) -> Result<CertifyResponse, Refusal> {
        is_complete(request)?;
        if !self.knocks.allow(peer, Instant::now()) {
            return Err(Refusal::new(
                Cause::RateLimit,
                "too many requests from there: try again in a second",
            ));
        }
        let bearer = self.accounts.bearer(request.token.trim_ascii()).await?;
        self.sign(request, &bearer, now)
    }

    fn sign(
        &self,
        request: &CertifyRequest,
        Bearer { account, pod }: &Bearer,
        now: SystemTime,
    ) -> Result<CertifyResponse, Refusal> {
        let identity = self.identities.of(&account.namespace, &account.name);
        if request.identity != identity {
            let message = format!("identity is not the token's, which is {identity}");
            return Err(Refusal::new(Cause::OtherIdentity, message));
        }
        if !self.limiter.allow(identity.clone(), Instant::now()) {
            let message = format!("too many certificates for {identity}: try again in a second");
            return Err(Refusal::new(Cause::RateLimit, message));
        }
        let csr = Csr::read(&request.certificate_signing_request)?;
        if csr.name != identity {
            let message = "certificate signing request: its name is not the identity asked for";
            return Err(Refusal::new(Cause::OtherIdentity, message));
        }
        if let Some(pod) = pod
            && !self.keys.claim(csr.public_key(), pod, Instant::now())
        {
            let message = "certificate signing request: its key is that of another Pod";
            return Err(Refusal::new(Cause::RequestReplayed, message));
        }
        let authority = self.authority.borrow().clone();
        let leaf =
            authority.sign(&csr, now).map_err(|error| Refusal::new(Cause::Signing, error.to_string()))?;
        tracing::info!(%identity, "certificate issued");
        Ok(CertifyResponse {
            leaf_certificate: leaf.der,
            intermediate_certificates: leaf.intermediates,
            valid_until: Some(leaf.not_after.into()),
        })
    }
}

fn is_complete(request: &CertifyRequest) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(Cause::Incomplete, message));
    for (field, empty) in [
        ("identity", request.identity.is_empty()),
        ("token", request.token.is_empty()),
        ("certificate_signing_request", request.certificate_signing_request.is_empty()),
    ] {
        if empty {
            return refuse(format!("{field} is missing"));
        }
    }
    match request.token.len() {
        0..=MAX_TOKEN_BYTES => Ok(()),
        _ => refuse("token is too long".into()),
    }
}

#[async_trait]
impl Identity for Certifier {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let peer = request.remote_addr();
        match Certifier::certify(self, request.get_ref(), Peer::of(&request), SystemTime::now()).await {
            Ok(response) => {
                self.asked_for.issued();
                Ok(Response::new(response))
            }
            Err(refusal) => {
                let Refusal { cause, message } = &refusal;
                if let Some(times) = self.asked_for.refused(*cause, Instant::now()) {
                    // What it says it is: nothing of this is proved.
                    let identity: String = request.get_ref().identity.chars().take(253).collect();
                    tracing::warn!(?peer, identity, ?cause, reason = message, times, "certificate refused");
                }
                Err(refusal.into())
            }
        }
    }
}

#[cfg(test)]
mod tests;
