//! Asks the API once, or again and again at a slow pace for what the page's one stream does not carry.

use crate::{api::feed::Feed, clock::Clock};
use leptos::prelude::*;
use mesh_api::stream::ApiError;
use serde::de::DeserializeOwned;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::Response;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The operator does not answer.
    Unreachable,
    /// It answered, and said why not.
    Refused(String),
}

/// `path` is relative to the page's base: `api/v1/…`.
pub async fn get<T: DeserializeOwned>(path: &str) -> Result<T, Failure> {
    let response = JsFuture::from(window().fetch_with_str(path)).await.map_err(unreachable)?;
    let response: Response = response.dyn_into().map_err(unreachable)?;
    let body = JsFuture::from(response.text().map_err(unreachable)?).await.map_err(unreachable)?;
    let body = body.as_string().unwrap_or_default();
    if response.ok() {
        return serde_json::from_str(&body).map_err(|error| Failure::Refused(unreadable(path, &error)));
    }
    // A gateway in between answers 502 to 504 for an operator that is away.
    if response.status() >= 502 {
        return Err(Failure::Unreachable);
    }
    match serde_json::from_str::<ApiError>(&body) {
        Ok(refusal) => Err(Failure::Refused(refusal.error)),
        Err(_) => Err(Failure::Refused(format!("{path}: status {}", response.status()))),
    }
}

fn unreachable(_: JsValue) -> Failure {
    Failure::Unreachable
}

/// For an answer that is not what this build expects.
pub fn unreadable(path: &str, error: &serde_json::Error) -> String {
    format!("{path}: the answer is not what this page expects ({error}); reload the page")
}

/// What was asked for: the newest answer, and why there is none if there is none.
pub struct Asked<T: Send + Sync + 'static> {
    pub answer: RwSignal<Option<T>>,
    pub failure: RwSignal<Option<Failure>>,
}

impl<T: Send + Sync + 'static> Clone for Asked<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Send + Sync + 'static> Copy for Asked<T> {}

/// Asks now, when `path` changes, and every `period_s` seconds (0: never again) while somebody looks.
/// A new path clears the old answer; `None` asks nothing.
pub fn asked<T>(period_s: u32, path: impl Fn() -> Option<String> + Send + Sync + 'static) -> Asked<T>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let asked = Asked { answer: RwSignal::new(None), failure: RwSignal::new(None) };
    let feed: Feed = expect_context();
    let clock: Clock = expect_context();
    let path = Memo::new(move |_| path());
    let due = Memo::new(move |seen: Option<&u64>| match (period_s, seen) {
        (0, _) => 0,
        (_, Some(seen)) if !feed.awake() => *seen,
        _ => clock.every(period_s).get(),
    });
    Effect::new(move |before: Option<Option<String>>| {
        due.get();
        let now = path.get();
        if before.is_some_and(|before| before != now) {
            asked.answer.try_set(None);
            asked.failure.try_set(None);
        }
        if let Some(url) = now.clone() {
            wasm_bindgen_futures::spawn_local(async move {
                let result = get::<T>(&url).await;
                // The page may have gone, or asked for something else, in the meantime.
                if path.try_get_untracked() != Some(Some(url)) {
                    return;
                }
                match result {
                    Ok(answer) => {
                        asked.answer.try_set(Some(answer));
                        if asked.failure.try_get_untracked().flatten().is_some() {
                            asked.failure.try_set(None);
                        }
                    }
                    Err(failure) => {
                        asked.failure.try_set(Some(failure));
                    }
                }
            });
        }
        now
    });
    asked
}
