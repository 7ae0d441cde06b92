//! Asks the operator: GET, JSON in, a sentence out when it fails. Standalone by its address, on a cluster through the API server;
//! every request has a connection of its own.

use crate::cluster::{Operator, cause};
use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use mesh_api::stream::ApiError;
use serde::de::DeserializeOwned;
use std::{fmt::Write, time::Duration};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(5);
/// Through an API server that is far away, and a kubelet.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(20);
/// A probe is repeated, so it need not wait for long.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
const MAX_ANSWER_BYTES: usize = 64 << 20;

#[derive(Clone)]
pub struct Client {
    /// What it is called in sentences; standalone also its URL, without a slash at the end.
    pub base: String,
    way: Way,
}

#[derive(Clone)]
enum Way {
    /// `host:port`
    Direct(String),
    Cluster(Operator),
}

impl Client {
    pub fn new(base: &str) -> anyhow::Result<Client> {
        let uri: Uri = base.parse().with_context(|| format!("operator {base:?}"))?;
        let Some(authority) = uri.authority().filter(|_| uri.scheme_str() == Some("http")) else {
            bail!("operator {base:?}: want http://host:port");
        };
        let port = authority.port_u16().unwrap_or(80);
        let way = Way::Direct(format!("{}:{port}", authority.host()));
        Ok(Client { base: base.trim_end_matches('/').to_owned(), way })
    }

    pub fn on_cluster(operator: Operator) -> Client {
        Client { base: operator.to_string(), way: Way::Cluster(operator) }
    }

    /// `None` for an operator without a cluster.
    pub fn on(&self) -> Option<&Operator> {
        match &self.way {
            Way::Direct(_) => None,
            Way::Cluster(operator) => Some(operator),
        }
    }

    /// `path` as in `/api/v1/workloads`; parameters without a value are left out.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
    ) -> anyhow::Result<T> {
        let path = format!("{path}{}", encode(query));
        let patience = match self.way {
            Way::Direct(_) => PATIENCE,
            Way::Cluster(_) => CLUSTER_PATIENCE,
        };
        let body = tokio::time::timeout(patience, self.fetch(&path))
            .await
            .map_err(|_| anyhow!("no answer within {} s from {}", patience.as_secs(), self.base))??;
        serde_json::from_slice(&body).with_context(|| {
            format!(
                "{path} of {} is answered with what this version of mesh cannot read (see `mesh version`)",
                self.base
            )
        })
    }

    /// Whether this path is answered with success right now.
    pub async fn answers(&self, path: &str) -> bool {
        matches!(tokio::time::timeout(PROBE_PATIENCE, self.fetch(path)).await, Ok(Ok(_)))
    }

    async fn fetch(&self, path: &str) -> anyhow::Result<Bytes> {
        let response = self.send(&Method::GET, path, HeaderMap::new()).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|e| anyhow!("{path} of {}: {e}", self.base))?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(refused) => bail!("{}", refused.error),
            Err(_) => bail!("{path} of {} is answered {status}", self.base),
        }
    }

    /// The answer as it comes, whatever its status, for those who pass it on. Without a deadline: a stream has no end.
    pub async fn send(
        &self,
        method: &Method,
        path: &str,
        mut headers: HeaderMap,
    ) -> anyhow::Result<Response<Incoming>> {
        // On a cluster the connection ends in the operator's own Pod, where it is addressed by this name.
        let host = match &self.way {
            Way::Direct(authority) => authority,
            Way::Cluster(_) => "localhost",
        };
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, host.parse().with_context(|| format!("operator {host:?}"))?);
        }
        if let Way::Cluster(operator) = &self.way {
            headers.insert(header::AUTHORIZATION, operator.authorization().await?);
        }
        let mut request = Request::builder().method(method).uri(path).body(Empty::<Bytes>::new())?;
        *request.headers_mut() = headers;
        let mut sender = match &self.way {
            Way::Direct(authority) => {
                let connected = TcpStream::connect(authority).await;
                speak(connected.map_err(|e| {
                    anyhow!(
                        "no operator at {} ({e}): is `mesh demo` running? another address goes into --operator",
                        self.base
                    )
                })?)
                .await
            }
            Way::Cluster(operator) => speak(operator.connect().await?).await,
        }?;
        let response = sender.send_request(request).await;
        response.map_err(|e| anyhow!("{} did not answer: {}", self.base, cause(&e)))
    }
}

/// HTTP/1 on a connection, for one request.
async fn speak(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> anyhow::Result<http1::SendRequest<Empty<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with its one answer: the sender goes when the request is sent. What breaks it, the answer's reader sees.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
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
