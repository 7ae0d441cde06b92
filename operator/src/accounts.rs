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

/// Who shows a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    pub account: Account,
    /// UID of the Pod that the token is bound to; files are bound to none.
    pub pod: Option<String>,
}

/// What is wrong with a token, as far as one can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Good for somebody else, such as the API server.
    Audience,
    Expired,
    /// The Pod or the account that it was made for is not there any more.
    Gone,
    Unbound,
    Invalid,
}

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error("token is not that of a service account{1}")]
    Refused(Fault, String),
    /// Nobody could say: the same question may be answered later.
    #[error("token could not be reviewed: {0}")]
    Unavailable(String),
}

impl Accounts {
    pub async fn bearer(&self, token: &[u8]) -> Result<Bearer, Doubt> {
        match self {
            Accounts::Files(tokens) => {
                let account = tokens.account(token);
                let account = account.ok_or(Doubt::Refused(Fault::Invalid, String::new()))?;
                Ok(Bearer { account, pod: None })
            }
            Accounts::Reviews(reviewer) => reviewer.bearer(token).await,
        }
    }
}
