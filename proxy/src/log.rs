//! Logging on standard error: what is logged (a `tracing` filter) and how.

use std::str::FromStr;
use tracing_subscriber::{
    Layer, filter::Targets, fmt::time::uptime, layer::SubscriberExt, util::SubscriberInitExt,
};

#[derive(Debug)]
pub struct Settings {
    pub filter: Targets,
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Plain,
    Json,
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Format, ()> {
        match text {
            "plain" => Ok(Format::Plain),
            "json" => Ok(Format::Json),
            _ => Err(()),
        }
    }
}

/// Reads a filter: `level` or `target=level`, separated by commas. One written for Linkerd means us: `linkerd=debug` reads as
/// `mesh_proxy=debug`, and what it says of spans (`[{request}]=off`) has no effect, for we have none.
pub fn filter(text: &str) -> Option<Targets> {
    let directives: Vec<String> = text
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.contains('['))
        .map(|directive| match directive.strip_prefix("linkerd=") {
            Some(level) => format!("mesh_proxy={level}"),
            None => directive.to_owned(),
        })
        .collect();
    directives.join(",").parse().ok()
}

/// Starts logging; once per process.
pub fn init(settings: &Settings) {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.format {
        Format::Plain => lines.with_timer(uptime()).with_ansi(false).boxed(),
        Format::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(settings.filter.clone())).init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_linkerd_filter_means_us() {
        let linkerd = "warn,linkerd=info,hickory=error,[{headers}]=off,[{request}]=off";
        assert_eq!(filter(linkerd), filter("warn, mesh_proxy=info, hickory=error"));
        let ours = filter(linkerd).unwrap();
        assert!(ours.would_enable("mesh_proxy::identity", &Level::INFO));
        assert!(!ours.would_enable("mesh_proxy::identity", &Level::DEBUG));
        assert!(!ours.would_enable("h2", &Level::INFO));
        assert_eq!(filter("mesh_proxy=loud"), None);
    }
}
