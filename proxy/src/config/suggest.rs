//! Finds misspelled settings: an unknown `MESH_PROXY_*` name is an error, an unknown `LINKERD2_PROXY_*` is somebody else's, and so is
//! what kubelet says of a Service that is called `mesh-proxy`.

use super::{knobs, parse::OURS};
use mesh_api::service_link::is_service_link;

/// Below this, a suggestion would be a guess.
const LIKENESS: f64 = 0.85;

/// One sentence for each unknown name.
pub fn unknown(get: &dyn Fn(&str) -> Option<String>, names: &[String]) -> impl Iterator<Item = String> {
    names.iter().filter_map(move |variable| {
        let name = variable.strip_prefix(OURS)?;
        let nearest = known().max_by(|a, b| likeness(a, name).total_cmp(&likeness(b, name)))?;
        if nearest == name || is_service_link(variable, &get(variable).unwrap_or_default()) {
            return None;
        }
        Some(if likeness(nearest, name) > LIKENESS {
            format!("{variable} is not a setting: did you mean {OURS}{nearest}?")
        } else {
            format!("{variable} is not a setting: `mesh-proxy --help` lists them")
        })
    })
}

fn known() -> impl Iterator<Item = &'static str> {
    knobs::ALL.iter().map(|knob| knob.name).chain(knobs::IGNORED.iter().map(|(name, _)| *name))
}

/// From 0 to 1. Names are long, so a part of one (`GRACE_PERIOD`) is as good as a spelling mistake.
fn likeness(known: &str, name: &str) -> f64 {
    if known != name && name.len() > 4 && known.contains(name) {
        return 0.99;
    }
    strsim::jaro_winkler(known, name)
}
