//! Names as people give them: `namespace/name`, or a name alone in the namespace that `-n` says, else in the one of the kubeconfig's
//! context, as kubectl takes it.

use crate::api::Client;
use anyhow::{bail, ensure};

/// `namespace/name` of what a person has called `text`. `what` is the word for it in a sentence.
pub fn full(what: &str, text: &str, namespace: Option<&str>, api: &Client) -> anyhow::Result<String> {
    placed(what, text, namespace, api.on().map(|operator| operator.cluster().namespace()))
}

fn placed(
    what: &str,
    text: &str,
    namespace: Option<&str>,
    of_context: Option<&str>,
) -> anyhow::Result<String> {
    if let Some((own, name)) = text.split_once('/') {
        ensure!(!own.is_empty() && !name.is_empty(), "{what} {text:?}: want namespace/name");
        return Ok(text.to_owned());
    }
    match namespace.or(of_context) {
        Some(namespace) if !text.is_empty() => Ok(format!("{namespace}/{text}")),
        Some(_) | None => bail!("{what} {text:?}: want namespace/name, or its namespace with -n"),
    }
}

#[cfg(test)]
mod tests {
    use super::placed;

    #[test]
    fn a_name_alone_is_one_of_the_namespace_that_kubectl_would_take() {
        let place = |text, namespace, of_context| placed("Pod", text, namespace, of_context).ok();
        for (text, namespace, of_context, expected) in [
            ("shop/web", None, None, Some("shop/web")),
            ("shop/web", Some("shop"), Some("default"), Some("shop/web")),
            ("web", Some("shop"), Some("default"), Some("shop/web")),
            ("web", None, Some("default"), Some("default/web")),
            ("web", None, None, None),
            ("shop/web", Some("other"), None, Some("shop/web")),
            ("shop/", None, None, None),
            ("", Some("shop"), None, None),
        ] {
            assert_eq!(place(text, namespace, of_context).as_deref(), expected, "{text} {namespace:?}");
        }
    }
}
