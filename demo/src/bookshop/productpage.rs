//! The web page: who is reading, and what details and reviews have to say about the book.
//! How it looks is `page`'s work.

use super::{BOOK, BookDetails, ReviewList, page};
use crate::{
    arguments::Upstreams,
    client::Client,
    context,
    server::{Response, html, json, not_found},
};
use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri,
    body::Incoming,
    header::{CONTENT_TYPE, COOKIE, HeaderValue, LOCATION, SET_COOKIE},
};
use serde::de::DeserializeOwned;
use std::time::Duration;

const DETAILS_PATIENCE: Duration = Duration::from_secs(3);
/// Reviews are asked twice, each time this long.
const REVIEWS_PATIENCE: Duration = Duration::from_secs(3);
const REVIEWS_TRIES: u32 = 2;
const MAX_FORM_BYTES: usize = 4_096;
const MAX_USER_BYTES: usize = 32;

#[derive(Debug)]
pub struct Productpage {
    client: Client,
    at: Upstreams,
}

impl Productpage {
    pub fn new(client: Client, at: Upstreams) -> Self {
        Productpage { client, at }
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Response {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::POST, "/login") => log_in(request).await,
            (_, "/logout") => to_page(Some("user=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax")),
            (&Method::GET | &Method::HEAD, "/") => to_page(None),
            (&Method::GET | &Method::HEAD, "/productpage") => self.page(request.headers()).await,
            (&Method::GET | &Method::HEAD, path) => self.api(path, request.headers()).await,
            _ => json(StatusCode::METHOD_NOT_ALLOWED, r#"{"error":"this can only be read"}"#),
        }
    }

    async fn page(&self, headers: &HeaderMap) -> Response {
        let user = user(headers);
        let context = context_of(headers, user.as_deref());
        let (details, reviews) =
            tokio::join!(self.details(BOOK, context.clone()), self.reviews(BOOK, context));
        for e in [details.as_ref().err(), reviews.as_ref().err()].into_iter().flatten() {
            eprintln!("{e:#}");
        }
        let page = page::render(user.as_deref(), details.as_ref().ok(), reviews.as_ref().ok());
        html(StatusCode::OK, page)
    }

    /// `/api/v1/products`, `/api/v1/products/{id}` and below it `/reviews` and `/ratings`: what the services answer, passed on.
    /// Ratings is asked by the page itself here, which the demo's policy forbids.
    async fn api(&self, path: &str, headers: &HeaderMap) -> Response {
        let Some(rest) = path.strip_prefix("/api/v1/products") else { return not_found() };
        if rest.is_empty() {
            let books = format!(r#"[{{"id":{BOOK},"title":"{}"}}]"#, page::TITLE);
            return json(StatusCode::OK, books);
        }
        let mut parts = rest.trim_start_matches('/').splitn(2, '/');
        let Some(Ok(id)) = parts.next().map(str::parse::<u32>) else { return not_found() };
        let (base, service) = match parts.next() {
            None => (&self.at.details_url, "details"),
            Some("reviews") => (&self.at.reviews_url, "reviews"),
            Some("ratings") => (&self.at.ratings_url, "ratings"),
            Some(_) => return not_found(),
        };
        let context = context_of(headers, user(headers).as_deref());
        match self.ask(base, service, id, context, DETAILS_PATIENCE).await {
            Ok((status, body)) if status.is_success() => json(status, body),
            // Often not the service's own words, but a proxy's in between.
            Ok((status, _)) => json(status, format!(r#"{{"error":"{service} answered {status}"}}"#)),
            Err(e) => {
                eprintln!("{e:#}");
                json(StatusCode::SERVICE_UNAVAILABLE, format!(r#"{{"error":"{service} did not answer"}}"#))
            }
        }
    }

    async fn details(&self, id: u32, context: HeaderMap) -> anyhow::Result<BookDetails> {
        let (status, body) = self.ask(&self.at.details_url, "details", id, context, DETAILS_PATIENCE).await?;
        read("details", status, &body)
    }

    async fn reviews(&self, id: u32, context: HeaderMap) -> anyhow::Result<ReviewList> {
        let mut last = anyhow::anyhow!("reviews were never asked");
        for _ in 0..REVIEWS_TRIES {
            let answer =
                self.ask(&self.at.reviews_url, "reviews", id, context.clone(), REVIEWS_PATIENCE).await;
            match answer.and_then(|(status, body)| read("reviews", status, &body)) {
                Ok(reviews) => return Ok(reviews),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    async fn ask(
        &self,
        base: &Uri,
        service: &str,
        id: u32,
        context: HeaderMap,
        patience: Duration,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let uri: Uri = format!("{base}{service}/{id}").parse()?;
        self.client.get(&uri, context, patience).await
    }
}

fn read<T: DeserializeOwned>(service: &str, status: StatusCode, body: &[u8]) -> anyhow::Result<T> {
    ensure!(status.is_success(), "{service} answered {status}");
    serde_json::from_slice(body).with_context(|| format!("{service} answered something unknown"))
}

/// Who is logged in, from the cookie that `log_in` set. It is a name and no secret: this is a demo, not a shop.
fn user(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let user = cookies.flat_map(|line| line.split("; ")).find_map(|cookie| cookie.strip_prefix("user="))?;
    is_user_name(user).then(|| user.to_owned())
}

/// The name goes into a header and into the page: letters, digits, `-` and `_` are safe in both.
fn is_user_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_USER_BYTES
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// What the request hands on, with `end-user` for whoever is logged in.
fn context_of(headers: &HeaderMap, user: Option<&str>) -> HeaderMap {
    let mut context = context::of(headers);
    if let Some(Ok(user)) = user.map(HeaderValue::from_str) {
        context.insert("end-user", user);
    }
    context
}

async fn log_in(request: Request<Incoming>) -> Response {
    let is_form = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let Ok(body) = Limited::new(request.into_body(), MAX_FORM_BYTES).collect().await else {
        return json(StatusCode::PAYLOAD_TOO_LARGE, r#"{"error":"the form is too long"}"#);
    };
    let body = body.to_bytes();
    let fields = std::str::from_utf8(&body).unwrap_or_default();
    let name = fields.split('&').find_map(|field| field.strip_prefix("username="));
    match name {
        Some(name) if is_form && is_user_name(name) => {
            to_page(Some(&format!("user={name}; Path=/; HttpOnly; SameSite=Lax")))
        }
        _ => json(StatusCode::BAD_REQUEST, r#"{"error":"want username: letters, digits, - and _"}"#),
    }
}

fn to_page(cookie: Option<&str>) -> Response {
    let mut response = html(StatusCode::SEE_OTHER, String::new());
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/productpage"));
    if let Some(Ok(cookie)) = cookie.map(HeaderValue::from_str) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_cookie(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, cookie.parse().unwrap())])
    }

    #[test]
    fn the_cookie_names_the_user() {
        assert_eq!(user(&with_cookie("theme=dark; user=jason")), Some("jason".into()));
        assert_eq!(user(&with_cookie("theme=dark")), None);
        assert_eq!(user(&HeaderMap::new()), None);
    }

    #[test]
    fn a_name_that_could_be_markup_is_nobody() {
        assert_eq!(user(&with_cookie("user=<script>")), None);
        assert_eq!(user(&with_cookie("user=")), None);
    }

    #[test]
    fn a_log_in_is_handed_on_as_end_user() {
        let headers = with_cookie("user=jason");
        let context = context_of(&headers, user(&headers).as_deref());
        assert_eq!(context["end-user"], "jason");
    }
}
