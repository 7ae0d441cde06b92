//! Whose token it is: files know in standalone mode, the API server on a cluster.

use crate::{cluster::review::Reviewer, tokens::Tokens};
use std::sync::Arc;

/// What a token proves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug)]
pub enum Accounts {
    Files(Arc<Tokens>),
    Reviews(Arc<Reviewer>),
}

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error("token is not that of a service account{0}")]
    Refused(String),
    /// Nobody could say: the same question may be answered later.
    #[error("token could not be reviewed: {0}")]
    Unavailable(String),
}

impl Accounts {
    pub async fn account(&self, token: &[u8]) -> Result<Account, Doubt> {
        match self {
            Accounts::Files(tokens) => tokens.account(token).ok_or(Doubt::Refused(String::new())),
            Accounts::Reviews(reviewer) => reviewer.account(token).await,
        }
    }
}
