//! Logging on standard error: what is logged (a `tracing` filter) and how.

use std::str::FromStr;
use tracing_subscriber::{EnvFilter, fmt::time::uptime};

#[derive(Debug)]
pub struct Settings {
    pub filter: String,
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

/// Checks a filter, and lets one written for Linkerd mean us: `linkerd=debug` reads as `mesh_proxy=debug`.
pub fn filter(text: &str) -> Option<String> {
    let directives: Vec<String> = text
        .split(',')
        .map(|directive| match directive.trim().strip_prefix("linkerd=") {
            Some(level) => format!("mesh_proxy={level}"),
            None => directive.trim().to_owned(),
        })
        .collect();
    let filter = directives.join(",");
    EnvFilter::try_new(&filter).is_ok().then_some(filter)
}

/// Starts logging; once per process.
pub fn init(settings: &Settings) {
    let filter = EnvFilter::new(&settings.filter);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.format {
        Format::Plain => builder.with_timer(uptime()).with_ansi(false).init(),
        Format::Json => builder.json().init(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linkerd_filter_means_us() {
        let linkerd = "warn,linkerd=info,hickory=error,[{headers}]=off,[{request}]=off";
        assert_eq!(filter(linkerd).unwrap(), linkerd.replace("linkerd=", "mesh_proxy="));
        assert_eq!(filter("mesh_proxy=loud"), None);
    }
}
