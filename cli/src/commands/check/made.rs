//! Results of checks that we make ourselves.

use mesh_api::check::{Check, Outcome};

pub fn pass(group: &str, name: &str) -> Check {
    check(group, name, Outcome::Pass, vec![], "")
}

pub fn warn(group: &str, name: &str, findings: Vec<String>, remedy: &str) -> Check {
    check(group, name, Outcome::Warn, findings, remedy)
}

pub fn fail(group: &str, name: &str, findings: Vec<String>, remedy: &str) -> Check {
    check(group, name, Outcome::Fail, findings, remedy)
}

fn check(group: &str, name: &str, outcome: Outcome, findings: Vec<String>, remedy: &str) -> Check {
    Check { group: group.into(), name: name.into(), outcome, findings, remedy: remedy.into() }
}

/// Passes where nothing was found, and warns else.
pub fn unless(findings: Vec<String>, group: &str, name: &str, remedy: &str) -> Check {
    if findings.is_empty() { pass(group, name) } else { warn(group, name, findings, remedy) }
}
