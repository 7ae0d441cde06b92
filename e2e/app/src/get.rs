//! Asks for one URL, by the name that the cluster's DNS knows.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Uri};
use hyper_util::{client::legacy, rt::TokioExecutor};
use std::time::{Duration, Instant};
use tokio::time;

/// One try.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

pub async fn run(url: Uri, within: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        let why = match time::timeout(PATIENCE, get(&url)).await {
            Ok(Ok(body)) => {
                println!("{body}");
                return Ok(());
            }
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("GET {url}: no answer within {PATIENCE:?}"),
        };
        if start.elapsed() >= within {
            return Err(why);
        }
        time::sleep(PAUSE).await;
    }
}

async fn get(url: &Uri) -> Result<String> {
    let client = legacy::Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = url.clone();
    let response = client.request(request).await.with_context(|| format!("GET {url}"))?;
    let status = response.status();
    let body = response.into_body().collect().await.with_context(|| format!("read {url}"))?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        bail!("GET {url}: {status} {body}");
    }
    Ok(body)
}
