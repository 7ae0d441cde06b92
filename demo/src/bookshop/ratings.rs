//! Stars for a book, and the service that misbehaves when a test or a visitor asks for it.

use super::{RatingList, book_id};
use crate::{
    arguments::FaultOptions,
    faults::Faults,
    server::{Response, json, not_found},
};
use hyper::{Request, StatusCode};
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Ratings {
    faults: Faults,
}

impl Ratings {
    pub fn new(options: FaultOptions) -> Self {
        Ratings { faults: Faults::new(options) }
    }

    pub async fn answer<B>(&self, request: &Request<B>) -> Response {
        let Some(id) = book_id(request.uri().path(), "ratings") else { return not_found() };
        if self.faults.strike().await {
            return json(
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"error":"ratings was told to fail this request"}"#,
            );
        }
        let ratings = BTreeMap::from([("Reviewer1".to_owned(), 5), ("Reviewer2".to_owned(), 4)]);
        match serde_json::to_vec(&RatingList { id, ratings }) {
            Ok(body) => json(StatusCode::OK, body),
            Err(_) => json(StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":"ratings could not be written"}"#),
        }
    }
}
