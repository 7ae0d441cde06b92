//! `Identity.Certify`: a certificate for whoever proves by a token to be that service account.

use crate::{
    accounts::{Account, Accounts, Doubt},
    ca::{Authority, Csr, CsrError},
    rate::Limiter,
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

#[derive(Debug)]
pub struct Certifier {
    /// The newest one signs.
    authority: watch::Receiver<Arc<Authority>>,
    accounts: Accounts,
    identities: Identities,
    /// By identity: all Pods of a service account share one bucket, and a rollout starts many at once.
    limiter: Limiter<String>,
}

impl Certifier {
    pub fn new(
        authority: watch::Receiver<Arc<Authority>>,
        accounts: Accounts,
        identities: Identities,
    ) -> Certifier {
        Certifier { authority, accounts, identities, limiter: Limiter::new(BURST, PER_SECOND) }
    }

    /// The cheap checks come first, and nothing is signed before all of them hold: the token proves an account, the account's
    /// identity is the one asked for, and the request is for that name alone.
    async fn certify(&self, request: &CertifyRequest, now: SystemTime) -> Result<CertifyResponse, Status> {
        is_complete(request)?;
        let account = self.accounts.account(request.token.trim_ascii()).await.map_err(|doubt| {
            let message = doubt.to_string();
            match doubt {
                Doubt::Refused(_) => Status::failed_precondition(message),
                Doubt::Unavailable(_) => Status::unavailable(message),
            }
        })?;
        self.sign(request, &account, now)
    }

    fn sign(
        &self,
        request: &CertifyRequest,
        account: &Account,
        now: SystemTime,
    ) -> Result<CertifyResponse, Status> {
        let identity = self.identities.of(&account.namespace, &account.name);
        if request.identity != identity {
            return Err(Status::failed_precondition(format!(
                "identity is not the token's, which is {identity}"
            )));
        }
        if !self.limiter.allow(identity.clone(), Instant::now()) {
            return Err(Status::resource_exhausted(format!(
                "too many certificates for {identity}: try again in a second"
            )));
        }
        let csr = Csr::read(&request.certificate_signing_request).map_err(|error| match error {
            CsrError::Malformed(_) => Status::invalid_argument(error.to_string()),
            CsrError::Refused(_) => Status::failed_precondition(error.to_string()),
        })?;
        if csr.name != identity {
            return Err(Status::failed_precondition(
                "certificate signing request: its name is not the identity asked for",
            ));
        }
        let authority = self.authority.borrow().clone();
        let leaf = authority.sign(&csr, now).map_err(|error| {
            tracing::error!(%identity, %error, "certificate not issued");
            Status::internal(error.to_string())
        })?;
        tracing::info!(%identity, "certificate issued");
        Ok(CertifyResponse {
            leaf_certificate: leaf.der,
            intermediate_certificates: leaf.intermediates,
            valid_until: Some(leaf.not_after.into()),
        })
    }
}

fn is_complete(request: &CertifyRequest) -> Result<(), Status> {
    for (field, empty) in [
        ("identity", request.identity.is_empty()),
        ("token", request.token.is_empty()),
        ("certificate_signing_request", request.certificate_signing_request.is_empty()),
    ] {
        if empty {
            return Err(Status::invalid_argument(format!("{field} is missing")));
        }
    }
    match request.token.len() {
        0..=MAX_TOKEN_BYTES => Ok(()),
        _ => Err(Status::invalid_argument("token is too long")),
    }
}

#[async_trait]
impl Identity for Certifier {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let result = Certifier::certify(self, request.get_ref(), SystemTime::now()).await;
        if let Err(status) = &result {
            tracing::warn!(code = ?status.code(), reason = status.message(), "certificate refused");
        }
        result.map(Response::new)
    }
}
