//! The identity grammar: `{service account}.{namespace}.serviceaccount.identity.{control namespace}.{trust domain}`,
//! the one DNS name in a workload's certificate.

use std::{fmt, str::FromStr};

/// A workload's identity. Compared byte for byte; never a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub service_account: String,
    pub namespace: String,
    pub control_namespace: String,
    pub trust_domain: String,
}

/// Why a text is not an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidIdentity(String);

impl fmt::Display for InvalidIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not an identity: want <service account>.<namespace>.serviceaccount.identity.<control namespace>.<trust domain>",
            self.0
        )
    }
}

impl std::error::Error for InvalidIdentity {}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { service_account, namespace, control_namespace, trust_domain } = self;
        write!(f, "{service_account}.{namespace}.serviceaccount.identity.{control_namespace}.{trust_domain}")
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    /// A service account may hold dots; namespaces may not, so the split is from the marker leftwards.
    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        let invalid = || InvalidIdentity(text.to_owned());
        let (workload, control) = text.split_once(".serviceaccount.identity.").ok_or_else(invalid)?;
        let (service_account, namespace) = workload.rsplit_once('.').ok_or_else(invalid)?;
        let (control_namespace, trust_domain) = control.split_once('.').ok_or_else(invalid)?;
        let valid = |label: &str| {
            !label.is_empty()
                && label.len() <= 253
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
                && !label.starts_with(['.', '-'])
                && !label.ends_with(['.', '-'])
                && !label.contains("..")
        };
        if ![service_account, namespace, control_namespace, trust_domain].into_iter().all(valid) {
            return Err(invalid());
        }
        Ok(Identity {
            service_account: service_account.into(),
            namespace: namespace.into(),
            control_namespace: control_namespace.into(),
            trust_domain: trust_domain.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_identity_are_inverse(sa in "[a-z][a-z0-9-]{0,8}[a-z0-9](\\.[a-z0-9]{1,4})?", ns in "[a-z][a-z0-9]{0,8}", td in "[a-z]{1,8}(\\.[a-z]{2,5})?") {
            let identity = Identity { service_account: sa, namespace: ns, control_namespace: "mesh".into(), trust_domain: td };
            prop_assert_eq!(identity.to_string().parse::<Identity>().unwrap(), identity);
        }

        #[test]
        fn never_panics(text in "\\PC{0,80}") {
            let _ = text.parse::<Identity>();
        }
    }

    #[test]
    fn refuses_what_only_looks_like_one() {
        for text in [
            "",
            "a.b",
            ".b.serviceaccount.identity.mesh.cluster.local",
            "A.b.serviceaccount.identity.mesh.x",
            "a.b.serviceaccount.identity.mesh",
            "a\0.b.serviceaccount.identity.mesh.x",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text:?}");
        }
    }
}
