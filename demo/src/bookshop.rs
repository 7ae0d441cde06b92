//! The four services of the book shop, and what they say to each other in JSON.

pub mod details;
pub mod page;
pub mod productpage;
pub mod ratings;
pub mod reviews;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The only book in the shop.
pub const BOOK: u32 = 0;

/// `GET /details/{id}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BookDetails {
    pub id: u32,
    pub author: String,
    pub year: u32,
    #[serde(rename = "type")]
    pub binding: String,
    pub pages: u32,
    pub publisher: String,
    pub language: String,
    #[serde(rename = "ISBN-10")]
    pub isbn_10: String,
    #[serde(rename = "ISBN-13")]
    pub isbn_13: String,
}

/// `GET /reviews/{id}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReviewList {
    pub id: String,
    /// Which Pod answered: it tells the versions apart.
    pub podname: String,
    pub clustername: String,
    pub reviews: Vec<Review>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Review {
    pub reviewer: String,
    pub text: String,
    /// Absent in version 1, which knows no stars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<Rating>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Rating {
    Stars { stars: u8, color: String },
    Unavailable { error: String },
}

/// `GET /ratings/{id}`: stars by reviewer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatingList {
    pub id: u32,
    pub ratings: BTreeMap<String, u8>,
}

/// The number in `/details/0`, where `path` is that and `service` is `details`.
fn book_id(path: &str, service: &str) -> Option<u32> {
    path.strip_prefix('/')?.strip_prefix(service)?.strip_prefix('/')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn book_ids_are_whole_numbers_under_the_service() {
        assert_eq!(book_id("/details/0", "details"), Some(0));
        for path in ["/details", "/details/", "/details/x", "/details/-1", "/reviews/0", "/details/0/1"] {
            assert_eq!(book_id(path, "details"), None, "{path}");
        }
    }
}
