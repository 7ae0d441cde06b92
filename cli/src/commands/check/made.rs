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

/// Where the API server keeps from this user what was to be looked at.
pub fn unseen(objects: &[String], group: &str, name: &str) -> Check {
    let first = objects.first().map(String::as_str).unwrap_or_default();
    let finding = match objects.len() {
        0 | 1 => format!("not known: you may not get {first}"),
        count => format!("not known: you may not get {first} and {} more", count - 1),
    };
    warn(group, name, vec![finding], "an administrator of the cluster sees it")
}

/// Passes where nothing was found, and warns else.
pub fn unless(findings: Vec<String>, group: &str, name: &str, remedy: &str) -> Check {
    if findings.is_empty() { pass(group, name) } else { warn(group, name, findings, remedy) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_neither_well_nor_wrong() {
        let seen = |objects: &[&str]| {
            let objects: Vec<String> = objects.iter().map(|&object| object.to_owned()).collect();
            let check = unseen(&objects, "g", "n");
            assert_eq!(check.outcome, Outcome::Warn);
            check.findings.concat()
        };
        assert_eq!(seen(&["Role a/b"]), "not known: you may not get Role a/b");
        assert_eq!(seen(&["Role a/b", "Role a/c", "x"]), "not known: you may not get Role a/b and 2 more");
    }
}
