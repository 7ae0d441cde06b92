//! What readers wrote about a book, with stars where this version asks ratings for them.

use super::{Rating, RatingList, Review, ReviewList, book_id};
use crate::{
    arguments::ReviewsOptions,
    client::Client,
    context,
    server::{Response, json, not_found},
};
use anyhow::{Context, ensure};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use std::time::Duration;

/// Version 2 waits for ratings longer than the page waits for reviews (3 s). That is BookInfo's planted bug: a ratings that takes
/// 7 s leaves the page without reviews, although version 2 would have had an answer for it.
const PATIENCE_BLACK: Duration = Duration::from_millis(10_000);
const PATIENCE_OTHER: Duration = Duration::from_millis(2_500);

#[derive(Debug)]
pub struct Reviews {
    client: Client,
    options: ReviewsOptions,
}

impl Reviews {
    pub fn new(client: Client, options: ReviewsOptions) -> Self {
        Reviews { client, options }
    }

    pub async fn answer<B>(&self, request: &Request<B>) -> Response {
        let Some(id) = book_id(request.uri().path(), "reviews") else { return not_found() };
        let mut reviews = texts();
        if self.options.enable_ratings {
            let ratings = self.ratings(id, context::of(request.headers())).await;
            if let Err(e) = &ratings {
                eprintln!("ratings: {e:#}");
            }
            for review in &mut reviews {
                review.rating = Some(self.rating(review, ratings.as_ref().ok()));
            }
        }
        let list = ReviewList {
            id: id.to_string(),
            podname: self.options.pod_name.clone(),
            clustername: "null".into(),
            reviews,
        };
        match serde_json::to_vec(&list) {
            Ok(body) => json(StatusCode::OK, body),
            Err(_) => json(StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":"reviews could not be written"}"#),
        }
    }

    async fn ratings(&self, id: u32, context: HeaderMap) -> anyhow::Result<RatingList> {
        let uri: Uri = format!("{}ratings/{id}", self.options.ratings_url).parse()?;
        let patience = if self.options.star_color == "black" { PATIENCE_BLACK } else { PATIENCE_OTHER };
        let (status, body) = self.client.get(&uri, context, patience).await?;
        ensure!(status.is_success(), "{uri} answered {status}");
        serde_json::from_slice(&body).with_context(|| format!("{uri} answered something else than ratings"))
    }

    fn rating(&self, review: &Review, ratings: Option<&RatingList>) -> Rating {
        let Some(&stars) = ratings.and_then(|list| list.ratings.get(&review.reviewer)) else {
            return Rating::Unavailable { error: "Ratings service is currently unavailable".into() };
        };
        Rating::Stars { stars, color: self.options.star_color.clone() }
    }
}

fn texts() -> Vec<Review> {
    [
        ("Reviewer1", "Two pairs of twins, one day, and nobody notices until the last page. I laughed all the way through."),
        ("Reviewer2", "Funny, if you keep a list of who is who. The ending makes up for the muddle in the middle."),
    ]
    .map(|(reviewer, text)| Review { reviewer: reviewer.into(), text: text.into(), rating: None })
    .into()
}
