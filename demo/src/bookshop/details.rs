//! Facts about a book.

use super::{BookDetails, book_id};
use crate::server::{Response, json, not_found};
use hyper::{Request, StatusCode};

#[derive(Debug)]
pub struct Details;

impl Details {
    pub fn answer<B>(&self, request: &Request<B>) -> Response {
        let Some(id) = book_id(request.uri().path(), "details") else { return not_found() };
        let details = BookDetails {
            id,
            author: "William Shakespeare".into(),
            year: 1595,
            binding: "paperback".into(),
            pages: 200,
            publisher: "Mesh Press".into(),
            language: "English".into(),
            isbn_10: "0000000000".into(),
            isbn_13: "978-0000000002".into(),
        };
        match serde_json::to_vec(&details) {
            Ok(body) => json(StatusCode::OK, body),
            Err(_) => json(StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":"details could not be written"}"#),
        }
    }
}
