//! Serves the dashboard: embedded by build.rs, or from a folder while one works on it.
//! Files under `pkg/` have their hash in the name and never change; the page itself is always asked for again.

use super::refusal::Refusal;
use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file of the dashboard with its compressed forms.
#[derive(Debug)]
pub struct File {
    /// Relative: `pkg/app-1a2b3c4d.js`.
    pub path: &'static str,
    pub plain: &'static [u8],
    pub br: Option<&'static [u8]>,
    pub gz: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

#[derive(Clone, Debug)]
pub enum Dashboard {
    Embedded,
    /// `--dashboard-dir`
    Folder(Arc<PathBuf>),
}

struct Found {
    bytes: Bytes,
    encoding: Option<&'static str>,
}

impl Dashboard {
    /// Hash of the whole, or `none`.
    pub fn build(&self) -> String {
        match self {
            Dashboard::Embedded => BUILD.into(),
            Dashboard::Folder(folder) => std::fs::read_to_string(folder.join("BUILD"))
                .map_or_else(|_| "none".into(), |build| build.trim().into()),
        }
    }

    /// Answers any path outside the API: a file of that name, else the page, which knows what to show at its address.
    pub async fn serve(&self, path: &str, headers: &HeaderMap) -> Response {
        let relative = path.trim_start_matches('/');
        if relative != "index.html" {
            if let Some(found) = self.find(relative, headers).await {
                return file(relative, found);
            }
            if relative.starts_with("pkg/") {
                return Refusal::not_found("no such file: the dashboard was updated, reload the page")
                    .into_response();
            }
        }
        match self.find("index.html", &HeaderMap::new()).await {
            Some(found) => page(&found.bytes, relative),
            None => Refusal::not_found("the dashboard's folder has no index.html: run cargo xtask dashboard")
                .into_response(),
        }
    }

    async fn find(&self, relative: &str, headers: &HeaderMap) -> Option<Found> {
        let accepts = |encoding| accepts(headers, encoding);
        match self {
            Dashboard::Embedded => {
                let file = FILES.iter().find(|file| file.path == relative)?;
                let found = |bytes, encoding| Some(Found { bytes: Bytes::from_static(bytes), encoding });
                match (file.br, file.gz) {
                    (Some(br), _) if accepts("br") => found(br, Some("br")),
                    (_, Some(gz)) if accepts("gzip") => found(gz, Some("gzip")),
                    _ => found(file.plain, None),
                }
            }
            Dashboard::Folder(folder) => {
                if !is_plain(relative) {
                    return None;
                }
                for (encoding, ending) in [("br", "br"), ("gzip", "gz")] {
                    if accepts(encoding)
                        && let Some(bytes) = read(folder, &format!("{relative}.{ending}")).await
                    {
                        return Some(Found { bytes, encoding: Some(encoding) });
                    }
                }
                Some(Found { bytes: read(folder, relative).await?, encoding: None })
            }
        }
    }
}

async fn read(folder: &Path, relative: &str) -> Option<Bytes> {
    tokio::fs::read(folder.join(relative)).await.ok().map(Bytes::from)
}

/// A relative path that cannot leave its folder.
fn is_plain(relative: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    relative.split('/').all(plain)
}

/// Whether the client accepts an encoding and has not ruled it out by `q=0`.
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        let refused = parts.any(|part| part.strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0_f32));
        named && !refused
    })
}

fn file(relative: &str, found: Found) -> Response {
    let mut response = Response::new(Body::from(found.bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(relative)));
    let caching =
        if relative.starts_with("pkg/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(encoding) = found.encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// The page, with its base pointing from the address at which it is shown back to where the server's root is. Relative, so
/// that the dashboard also works below a path of some proxy.
fn page(html: &[u8], relative: &str) -> Response {
    let depth = relative.matches('/').count();
    let base = if depth == 0 { "./".to_owned() } else { "../".repeat(depth) };
    let html =
        String::from_utf8_lossy(html).replacen(r#"<base href="/">"#, &format!(r#"<base href="{base}">"#), 1);
    let mut response = Response::new(Body::from(html));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}
