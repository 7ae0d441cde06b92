//! Checks for people, a line each.

use mesh_api::check::{CheckList, Outcome};
use std::fmt::Write;

pub fn worst(list: &CheckList) -> Outcome {
    list.checks.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Pass)
}

/// Without what is well.
pub fn short(list: &CheckList) -> String {
    let mut checks = list.checks.clone();
    checks.retain(|check| check.outcome != Outcome::Pass);
    text(&CheckList { checks })
}

/// Grouped as the operator sent them; findings and the remedy under the check they belong to.
pub fn text(list: &CheckList) -> String {
    let mut text = String::new();
    let mut group = "";
    for check in &list.checks {
        if check.group != group {
            if !group.is_empty() {
                text.push('\n');
            }
            group = &check.group;
            // Writing into a String cannot fail, here and below.
            let _ = writeln!(text, "{group}\n{}", "-".repeat(group.chars().count()));
        }
        let _ = writeln!(text, "{} {}", sign(check.outcome), check.name);
        for finding in &check.findings {
            let _ = writeln!(text, "    {finding}");
        }
        if !check.remedy.is_empty() {
            let _ = writeln!(text, "    → {}", check.remedy);
        }
    }
    let _ = writeln!(text, "\nStatus check results are {}", sign(worst(list)));
    text
}

fn sign(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "√",
        Outcome::Warn => "‼",
        Outcome::Fail => "×",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::check::Check;

    #[test]
    fn findings_and_remedy_stand_under_their_check() {
        let check = |group: &str, name: &str, outcome| Check {
            group: group.into(),
            name: name.into(),
            outcome,
            findings: vec![],
            remedy: String::new(),
        };
        let broken = Check {
            findings: vec!["routes.yaml, document 1, line 7: weight: want a whole number".into()],
            remedy: "correct the file; the last good version stays in force".into(),
            ..check("configuration", "every manifest is valid", Outcome::Fail)
        };
        let list =
            CheckList { checks: vec![broken, check("identity", "the trust anchor is valid", Outcome::Pass)] };
        insta::assert_snapshot!(text(&list), @r"
        configuration
        -------------
        × every manifest is valid
            routes.yaml, document 1, line 7: weight: want a whole number
            → correct the file; the last good version stays in force

        identity
        --------
        √ the trust anchor is valid

        Status check results are ×
        ");
        assert!(!short(&list).contains("trust anchor") && short(&list).contains("routes.yaml"));
    }
}
