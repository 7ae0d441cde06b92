//! Asks the operator: GET, JSON in, a sentence out when it fails.

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Uri, body::Bytes};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use mesh_api::stream::ApiError;
use serde::de::DeserializeOwned;
use std::{fmt::Write, time::Duration};

const PATIENCE: Duration = Duration::from_secs(5);
/// A probe is repeated, so it need not wait for long.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
const MAX_ANSWER_BYTES: usize = 64 << 20;

#[derive(Clone, Debug)]
pub struct Client {
    /// Without a slash at the end.
    pub base: String,
    http: legacy::Client<HttpConnector, Empty<Bytes>>,
}

impl Client {
    pub fn new(base: &str) -> anyhow::Result<Client> {
        let uri: Uri = base.parse().with_context(|| format!("operator {base:?}"))?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            bail!("operator {base:?}: want http://host:port");
        }
        let http = legacy::Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Ok(Client { base: base.trim_end_matches('/').to_owned(), http })
    }

    /// `path` as in `/api/v1/workloads`; parameters without a value are left out.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
    ) -> anyhow::Result<T> {
        let uri = format!("{}{path}{}", self.base, encode(query));
        let body = tokio::time::timeout(PATIENCE, self.fetch(&uri))
            .await
            .map_err(|_| anyhow!("no answer within {} s from {}", PATIENCE.as_secs(), self.base))??;
        serde_json::from_slice(&body).with_context(|| {
            format!("{uri} answered what this version of mesh cannot read (see `mesh version`)")
        })
    }

    /// Whether this path is answered with success right now.
    pub async fn answers(&self, path: &str) -> bool {
        let fetched = tokio::time::timeout(PROBE_PATIENCE, self.fetch(&format!("{}{path}", self.base))).await;
        matches!(fetched, Ok(Ok(_)))
    }

    async fn fetch(&self, uri: &str) -> anyhow::Result<Bytes> {
        let response = self.http.get(uri.parse()?).await.map_err(|e| {
            let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), root_cause);
            anyhow!(
                "no operator at {} ({cause}): is `mesh demo` running? another address goes into --operator",
                self.base
            )
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|e| anyhow!("{uri}: {e}"))?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(refused) => bail!("{}", refused.error),
            Err(_) => bail!("{uri} answered {status}"),
        }
    }
}

fn root_cause(e: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = e;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn encode(query: &[(&str, Option<&str>)]) -> String {
    let mut text = String::new();
    for (name, value) in query {
        let Some(value) = value else { continue };
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
                text.push(byte.into());
            } else {
                // Writing into a String cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_and_absent_ones_left_out() {
        assert_eq!(
            encode(&[("to", Some("a/b c&d")), ("from", None), ("x", Some("1"))]),
            "?to=a/b%20c%26d&x=1"
        );
        assert_eq!(encode(&[("from", None)]), "");
    }

    #[test]
    fn an_operator_is_a_url() {
        for bad in ["", "127.0.0.1:8084", "https://x", "http://"] {
            assert!(Client::new(bad).is_err(), "{bad:?}");
        }
    }
}
