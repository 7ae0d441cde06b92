//! ARCHITECTURE.md's picture of who may see whom, held against what cargo really resolves for each crate, tests apart.

use crate::{
    shell::{cargo, output},
    wasm_target::TRIPLE,
};
use anyhow::Result;
use std::collections::BTreeSet;

enum Rule {
    /// None of these, not even by way of another crate.
    Never(&'static [&'static str]),
    /// These and nothing else of this workspace or of the registry.
    Only(&'static [&'static str]),
}

const PICTURE: [(&str, Rule); 9] = [
    (
        "mesh-api",
        Rule::Only(&["serde", "serde_core", "serde_derive", "proc-macro2", "quote", "syn", "unicode-ident"]),
    ),
    (
        "mesh-proxy",
        Rule::Never(&["kube", "axum", "leptos", "mesh-policy", "mesh-operator", "mesh-tests", "mesh-e2e"]),
    ),
    (
        "mesh-policy",
        Rule::Never(&["tokio", "tonic", "hyper", "linkerd2-proxy-api", "prost", "mesh-operator"]),
    ),
    (
        "mesh-charts",
        Rule::Never(&["kube", "tokio", "hyper", "mesh-operator", "mesh-policy", "mesh-proxy", "mesh-tests"]),
    ),
    ("mesh-operator", Rule::Never(&["leptos", "mesh-proxy", "mesh-tests", "mesh-e2e"])),
    (
        "mesh-dashboard",
        Rule::Never(&["kube", "tonic", "tokio", "mesh-operator", "mesh-policy", "mesh-proxy"]),
    ),
    ("mesh", Rule::Never(&["mesh-operator", "mesh-policy", "mesh-proxy", "mesh-tests", "mesh-e2e"])),
    (
        "mesh-demo",
        Rule::Never(&["mesh-api", "mesh-operator", "mesh-policy", "mesh-proxy", "mesh-tests", "mesh-e2e"]),
    ),
    (
        "xtask",
        Rule::Never(&["mesh-api", "mesh-operator", "mesh-policy", "mesh-proxy", "mesh-tests", "mesh-e2e"]),
    ),
];

pub fn complaints() -> Result<Vec<String>> {
    let mut complaints = vec![];
    for (name, rule) in PICTURE {
        let seen = seen_by(name)?;
        match rule {
            Rule::Never(never) => {
                let found = never.iter().filter(|never| seen.contains(**never));
                complaints.extend(found.map(|it| {
                    format!("{name} must never see {it}: `cargo tree -p {name} -i {it}` shows how")
                }));
            }
            Rule::Only(only) => {
                let found = seen.iter().filter(|it| !only.contains(&it.as_str()) && *it != name);
                complaints
                    .extend(found.map(|it| format!("{name} may see {} only, not {it}", only.join(", "))));
            }
        }
    }
    Ok(complaints)
}

/// Names of all crates below this one.
fn seen_by(name: &str) -> Result<BTreeSet<String>> {
    // The dashboard is never built for anything but wasm.
    let target = if name == "mesh-dashboard" { TRIPLE } else { "all" };
    let tree = output(&mut cargo(&[
        "tree",
        "--quiet",
        "--package",
        name,
        "--edges",
        "normal,build",
        "--target",
        target,
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    Ok(tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}
