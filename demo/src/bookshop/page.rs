//! How the page looks: one HTML document without scripts, fonts or pictures from elsewhere.

use super::{BookDetails, Rating, Review, ReviewList};
use std::fmt::Write;

pub const TITLE: &str = "The Comedy of Errors";
const SUMMARY: &str = "Two masters who look alike, two servants who look alike, and one town that takes each for the other: \
    within a day it comes to a wrong dinner guest, a wrong arrest and a very patient duke.";
const STYLE: &str = include_str!("page.css");
const MOST_STARS: u8 = 5;

/// What did not arrive is said where it would have stood; the rest of the page is whole.
pub fn render(user: Option<&str>, details: Option<&BookDetails>, reviews: Option<&ReviewList>) -> String {
    let visitor = visitor(user);
    let details = details.map_or_else(|| sorry("Details"), book_facts);
    let (version, reviews) = match reviews {
        Some(list) => (escape(&list.podname), list.reviews.iter().map(review).collect()),
        None => ("nobody".to_owned(), sorry("Reviews")),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{TITLE} · BookInfo</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head>\n\
         <body><header><p class=\"shop\">BookInfo</p>{visitor}</header>\n<main>\
         <article><div class=\"cover\" aria-hidden=\"true\"><span>{TITLE}</span></div>\
         <div><h1>{TITLE}</h1><p class=\"summary\">{SUMMARY}</p></div></article>\n\
         <section aria-labelledby=\"d\"><h2 id=\"d\">Book details</h2>{details}</section>\n\
         <section aria-labelledby=\"r\"><h2 id=\"r\">Reviews</h2>{reviews}\
         <p class=\"by\">Reviews served by <code>{version}</code>. Reload: another version may answer.</p></section>\n\
         </main></body></html>\n"
    )
}

fn visitor(user: Option<&str>) -> String {
    match user {
        Some(user) => {
            format!("<p>Signed in as <b>{}</b> · <a href=\"/logout\">sign out</a></p>", escape(user))
        }
        None => "<form method=\"post\" action=\"/login\"><label>Name <input name=\"username\" required maxlength=\"32\" \
                 pattern=\"[A-Za-z0-9_\\-]+\" placeholder=\"jason\" autocomplete=\"off\"></label> <button>Sign in</button></form>"
            .to_owned(),
    }
}

fn book_facts(details: &BookDetails) -> String {
    let facts = [
        ("Author", details.author.clone()),
        ("Year", details.year.to_string()),
        ("Type", details.binding.clone()),
        ("Pages", details.pages.to_string()),
        ("Publisher", details.publisher.clone()),
        ("Language", details.language.clone()),
        ("ISBN-10", details.isbn_10.clone()),
        ("ISBN-13", details.isbn_13.clone()),
    ];
    let mut list = String::from("<dl>");
    for (name, value) in facts {
        // Writing into a String cannot fail.
        let _ = write!(list, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    list + "</dl>"
}

fn review(review: &Review) -> String {
    let stars = match &review.rating {
        None => String::new(),
        Some(Rating::Unavailable { error }) => format!("<p class=\"sorry\">{}</p>", escape(error)),
        Some(Rating::Stars { stars, color }) => star_line((*stars).min(MOST_STARS), color),
    };
    let Review { reviewer, text, .. } = review;
    format!("<blockquote><p>{}</p>{stars}<footer>{}</footer></blockquote>", escape(text), escape(reviewer))
}

fn star_line(stars: u8, color: &str) -> String {
    let full = "★".repeat(stars.into());
    let empty = "☆".repeat((MOST_STARS - stars).into());
    let color = escape(color);
    format!(
        "<p class=\"stars {color}\" role=\"img\" aria-label=\"{stars} of {MOST_STARS} {color} stars\">{full}{empty}</p>"
    )
}

fn sorry(what: &str) -> String {
    format!("<p class=\"sorry\">{what} are not available right now.</p>")
}

/// Text as HTML, in an element or in a quoted attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviews(rating: Option<Rating>) -> ReviewList {
        let review = Review { reviewer: "Reviewer1".into(), text: "a < b".into(), rating };
        ReviewList {
            id: "0".into(),
            podname: "reviews-v3".into(),
            clustername: "null".into(),
            reviews: vec![review],
        }
    }

    #[test]
    fn stars_are_drawn_in_the_versions_colour() {
        let page = render(None, None, Some(&reviews(Some(Rating::Stars { stars: 4, color: "red".into() }))));
        assert!(page.contains("★★★★☆"), "{page}");
        assert!(page.contains("4 of 5 red stars"), "{page}");
    }

    #[test]
    fn what_others_wrote_is_text_and_not_markup() {
        assert!(render(None, None, Some(&reviews(None))).contains("a &lt; b"));
    }

    #[test]
    fn a_missing_service_leaves_a_sentence_and_the_rest_of_the_page() {
        let page = render(Some("jason"), None, None);
        assert!(page.contains("Details are not available right now."));
        assert!(page.contains("Reviews are not available right now."));
        assert!(page.contains("Signed in as <b>jason</b>"));
    }
}
