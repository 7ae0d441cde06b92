//! The registry as a page: for a terminal (`mesh-proxy --help`) and for the docs (`mesh-proxy env --markdown`).

use super::knobs::{ALL, IGNORED, Knob};
use std::fmt::Write as _;

/// What `mesh-proxy --help` prints.
pub fn terminal() -> String {
    let mut page = String::from(
        "mesh-proxy: the data plane beside a pod\n\n\
         Usage:\n  mesh-proxy                  run, configured by the environment\n  \
         mesh-proxy init [--flag v]  redirect the pod's connections; each INIT_ setting has its flag,\n  \
                            \x20 INIT_PROXY_UID is --proxy-uid\n  \
         mesh-proxy start [--flag v] as root: redirect so, become the proxy's user for good, and run\n  \
         mesh-proxy await            wait until the proxy with this environment is ready\n  \
         mesh-proxy --help           this page\n  mesh-proxy --version        the version\n  \
         mesh-proxy env --markdown   this page's settings as Markdown\n\n\
         Settings: MESH_PROXY_<NAME>, else LINKERD2_PROXY_<NAME>\n",
    );
    let mut group = "";
    for knob in ALL {
        if knob.group != group {
            group = knob.group;
            let _ = writeln!(page, "\n{group}");
        }
        let _ = writeln!(page, "  {} ({}{})", knob.name, knob.form, default(knob, ""));
        let _ = writeln!(page, "      {}", knob.help.replace('`', ""));
    }
    page
}

/// What `mesh-proxy env --markdown` prints: docs/reference/proxy-env.md.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Proxy environment\n\n\
         Each setting is read from `MESH_PROXY_<NAME>`, else from `LINKERD2_PROXY_<NAME>`. An empty value counts as unset. A wrong \
         value, or a `MESH_PROXY_` name that is not in this list, ends the proxy with exit code 64 and one line per error; \
         `LINKERD2_PROXY_` names that are not in it are ignored.\n",
    );
    let mut group = "";
    for knob in ALL {
        if knob.group != group {
            group = knob.group;
            let _ = write!(page, "\n## {group}\n\n| name | value | meaning |\n|---|---|---|\n");
        }
        let _ = writeln!(
            page,
            "| `{}` | {}{} | {} |",
            knob.name,
            cell(knob.form),
            default(knob, "`"),
            cell(knob.help)
        );
    }
    page.push_str("\n## Understood, without effect\n\n| name | why |\n|---|---|\n");
    for (name, why) in IGNORED {
        let _ = writeln!(page, "| `{name}` | {why} |");
    }
    page
}

fn default(knob: &Knob, quote: &str) -> String {
    match knob.default {
        "" => String::new(),
        default => format!("; default {quote}{default}{quote}"),
    }
}

/// Markdown reads `<name>` as a tag and `|` as the cell's end.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('>', "&gt;")
}
