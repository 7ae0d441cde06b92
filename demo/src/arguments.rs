//! The command line: which part this process plays, and its knobs. Every knob is also an environment variable, because a
//! Pod's manifest sets those most easily.

use anyhow::{Context, bail};
use clap::{ArgAction, Args, Parser, Subcommand};
use hyper::Uri;
use std::{net::SocketAddr, time::Duration};

#[derive(Debug, Parser)]
#[command(version, about = "BookInfo: one binary that plays every service of a small book shop")]
pub struct Arguments {
    /// Where to listen.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:9080", global = true)]
    pub listen: SocketAddr,
    /// Send every request of ours through this proxy.
    #[arg(long, env = "http_proxy", global = true)]
    pub http_proxy: Option<String>,
    #[command(subcommand)]
    pub role: Role,
}

#[derive(Debug, Subcommand)]
pub enum Role {
    /// The web page; asks details and reviews.
    Productpage(Upstreams),
    /// Facts about a book.
    Details,
    /// What readers wrote; asks ratings for the stars.
    Reviews(ReviewsOptions),
    /// Stars.
    Ratings(FaultOptions),
    /// Readers who open a page over and over.
    Traffic(TrafficOptions),
}

#[derive(Debug, Args)]
pub struct Upstreams {
    #[arg(long, env = "DETAILS_URL", default_value = "http://details:9080")]
    pub details_url: Uri,
    #[arg(long, env = "REVIEWS_URL", default_value = "http://reviews:9080")]
    pub reviews_url: Uri,
    #[arg(long, env = "RATINGS_URL", default_value = "http://ratings:9080")]
    pub ratings_url: Uri,
}

#[derive(Debug, Args)]
pub struct ReviewsOptions {
    #[arg(long, env = "RATINGS_URL", default_value = "http://ratings:9080")]
    pub ratings_url: Uri,
    /// Whether to ask ratings at all: v1 does not.
    #[arg(long, env = "ENABLE_RATINGS", default_value_t = true, action = ArgAction::Set)]
    pub enable_ratings: bool,
    /// `black` in v2, `red` in v3.
    #[arg(long, env = "STAR_COLOR", default_value = "black", value_parser = color)]
    pub star_color: String,
    /// The name that answers carry, to tell the versions apart.
    #[arg(long, env = "HOSTNAME", default_value = "reviews")]
    pub pod_name: String,
}

#[derive(Debug, Args)]
pub struct FaultOptions {
    /// Answer this much later: `500ms`, `7s`.
    #[arg(long, env = "RATINGS_DELAY", default_value = "0s", value_parser = duration)]
    pub delay: Duration,
    /// Fail every n-th request with 503; 0 fails none.
    #[arg(long, env = "RATINGS_FAIL_EVERY", default_value_t = 0)]
    pub fail_every: u64,
    /// Fail this share of requests with 503, at random: 0 to 1.
    #[arg(long, env = "RATINGS_FAIL_RATIO", default_value = "0", value_parser = share)]
    pub fail_ratio: f64,
}

#[derive(Debug, Args)]
pub struct TrafficOptions {
    #[arg(long, env = "TRAFFIC_URL", default_value = "http://productpage:9080/productpage")]
    pub url: Uri,
    /// Requests started per second, whether or not earlier ones have been answered.
    #[arg(long, env = "TRAFFIC_RPS", default_value = "20", value_parser = rate)]
    pub rps: f64,
    /// Share of the readers who are logged in as jason: 0 to 1.
    #[arg(long, env = "TRAFFIC_JASON_SHARE", default_value = "0.1", value_parser = share)]
    pub jason_share: f64,
}

/// What is wrong, on one line and without how it should be used.
pub fn sentence(e: &clap::Error) -> String {
    let text = e.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

fn duration(text: &str) -> anyhow::Result<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().context("want a whole number and a unit, such as 500ms or 7s")?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        other => bail!("unknown unit {other:?}: want ms or s"),
    }
}

fn share(text: &str) -> anyhow::Result<f64> {
    let share: f64 = text.parse().context("want a number from 0 to 1")?;
    if !(0.0..=1.0).contains(&share) {
        bail!("want a number from 0 to 1");
    }
    Ok(share)
}

fn rate(text: &str) -> anyhow::Result<f64> {
    let rate: f64 = text.parse().context("want requests per second, such as 20")?;
    if !(0.1..=10_000.0).contains(&rate) {
        bail!("want 0.1 to 10000 requests per second");
    }
    Ok(rate)
}

/// A colour's name goes into the page's style, so it is letters and nothing else.
fn color(text: &str) -> anyhow::Result<String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase()) {
        bail!("want a colour's name in lower case, such as black or red");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_a_unit() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("7s").unwrap(), Duration::from_secs(7));
        for bad in ["", "7", "s", "-1s", "1h"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn shares_lie_between_nothing_and_everything() {
        assert_eq!(share("0.25").unwrap(), 0.25);
        for bad in ["-0.1", "1.1", "NaN", "x"] {
            assert!(share(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_one_sentence() {
        for (argument, named) in [
            ("--enable-ratings=flase", "invalid value 'flase' for '--enable-ratings <ENABLE_RATINGS>'"),
            ("--star-color=Red", "want a colour's name"),
            ("--no-such-flag", "unexpected argument '--no-such-flag'"),
        ] {
            let error = Arguments::try_parse_from(["mesh-demo", "reviews", argument]).unwrap_err();
            let said = sentence(&error);
            assert!(said.contains(named) && said.lines().count() == 1, "{said}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
