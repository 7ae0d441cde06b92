//! An answer that is a refusal: the status and the sentence.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use mesh_api::stream::ApiError;

#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub status: StatusCode,
    pub error: String,
}

impl Refusal {
    pub fn bad_request(error: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, error: error.into() }
    }

    pub fn not_found(error: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::NOT_FOUND, error: error.into() }
    }

    pub fn forbidden(error: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::FORBIDDEN, error: error.into() }
    }

    pub fn too_many(error: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::TOO_MANY_REQUESTS, error: error.into() }
    }

    pub fn busy(error: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::SERVICE_UNAVAILABLE, error: error.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(ApiError { error: self.error })).into_response()
    }
}

/// What somebody sent, fit to be shown in an error: short, and without control characters.
pub fn quoted(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    format!("{short:?}{}", if short.len() < text.len() { "…" } else { "" })
}
