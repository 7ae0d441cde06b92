//! Standalone mode's stand-in for service account tokens: one file per service account, `tokens/<namespace>/<name>`, made when the
//! account is first seen. Who can read the file is the account.

use crate::accounts::Account;
use anyhow::Context;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::RwLock,
};

#[derive(Debug)]
pub struct Tokens {
    dir: PathBuf,
    /// Written when accounts appear, read at each `Certify`; never held across an await.
    known: RwLock<BTreeMap<Account, Vec<u8>>>,
}

impl Tokens {
    pub fn open(state_dir: &Path) -> anyhow::Result<Tokens> {
        let tokens = Tokens { dir: state_dir.join("tokens"), known: RwLock::default() };
        make_dir(&tokens.dir)?;
        Ok(tokens)
    }

    /// Makes sure that exactly these accounts have a token. An account that is gone loses its token at once; its file stays,
    /// so that the account gets the same one back.
    pub fn keep(&self, accounts: &[(String, String)]) -> anyhow::Result<()> {
        let mut known = BTreeMap::new();
        for (namespace, name) in
            accounts.iter().filter(|(namespace, name)| is_file_name(namespace) && is_file_name(name))
        {
            let account = Account { namespace: namespace.clone(), name: name.clone() };
            let before = self.known.read().expect("no reader panics").get(&account).cloned();
            let token = match before {
                Some(token) => token,
                None => self.read_or_make(&account)?,
            };
            known.insert(account, token);
        }
        *self.known.write().expect("no writer panics") = known;
        Ok(())
    }

    /// Whose token this is. Takes the same time whichever it is, and when it is nobody's.
    pub fn account(&self, token: &[u8]) -> Option<Account> {
        let known = self.known.read().expect("no writer panics");
        let mut found = None;
        for (account, own) in known.iter() {
            if same(own, token) {
                found = Some(account);
            }
        }
        found.cloned()
    }

    fn read_or_make(&self, account: &Account) -> anyhow::Result<Vec<u8>> {
        let dir = self.dir.join(&account.namespace);
        make_dir(&dir)?;
        let path = dir.join(&account.name);
        match fs::read(&path) {
            Ok(token) if token.len() >= 32 => Ok(token.trim_ascii().to_vec()),
            _ => {
                let token = crate::random::hex::<32>();
                crate::ca::write(&path, token.as_bytes(), 0o600)?;
                Ok(token.into_bytes())
            }
        }
    }
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("making {}", dir.display()))
}

/// Names come from manifests: one that is no plain name must not become a path.
fn is_file_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (1..=253).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// Compares without stopping at the first difference, so that timing tells nothing but the length.
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn accounts(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| ("shop".to_owned(), (*name).to_owned())).collect()
    }

    #[test]
    fn each_account_has_its_own_token_and_keeps_it() {
        let state = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(state.path()).unwrap();
        tokens.keep(&accounts(&["web", "cart", "../../etc/passwd"])).unwrap();
        let file = state.path().join("tokens/shop/web");
        let web = fs::read(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(tokens.account(&web).unwrap().name, "web");
        assert_eq!(fs::read_dir(state.path().join("tokens/shop")).unwrap().count(), 2);
        for wrong in [&b""[..], b"x", &web[1..]] {
            assert_eq!(tokens.account(wrong), None);
        }
        tokens.keep(&accounts(&["cart"])).unwrap();
        assert_eq!(tokens.account(&web), None, "the account is gone");
        let again = Tokens::open(state.path()).unwrap();
        again.keep(&accounts(&["web"])).unwrap();
        assert_eq!(again.account(&web).unwrap().name, "web");
    }
}
