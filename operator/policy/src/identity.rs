//! The grammar of identities: `{service account}.{namespace}.serviceaccount.identity.{control namespace}.{trust domain}`.

/// Builds and reads the identities of one mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities {
    /// `.serviceaccount.identity.mesh.cluster.local`
    tail: String,
}

impl Identities {
    pub fn new(control_namespace: &str, trust_domain: &str) -> Identities {
        Identities { tail: format!(".serviceaccount.identity.{control_namespace}.{trust_domain}") }
    }

    pub fn of(&self, namespace: &str, service_account: &str) -> String {
        format!("{service_account}.{namespace}{}", self.tail)
    }

    /// What every identity of a namespace ends with, leading dot included.
    pub fn namespace_suffix(&self, namespace: &str) -> String {
        format!(".{namespace}{}", self.tail)
    }

    /// `(namespace, service account)`. A service account's name may contain dots, a namespace's cannot.
    pub fn parse<'a>(&self, identity: &'a str) -> Option<(&'a str, &'a str)> {
        let (service_account, namespace) = identity.strip_suffix(&self.tail)?.rsplit_once('.')?;
        (!service_account.is_empty() && !namespace.is_empty()).then_some((namespace, service_account))
    }
}

#[cfg(test)]
mod tests {
    use super::Identities;

    #[test]
    fn what_is_built_is_read_back() {
        let ids = Identities::new("mesh", "cluster.local");
        let id = ids.of("bookinfo", "a.b");
        assert_eq!(id, "a.b.bookinfo.serviceaccount.identity.mesh.cluster.local");
        assert_eq!(ids.parse(&id), Some(("bookinfo", "a.b")));
        assert!(id.ends_with(&ids.namespace_suffix("bookinfo")));
        assert_eq!(ids.parse("a.b.serviceaccount.identity.other.cluster.local"), None);
    }
}
