//! What every file of the repository is held to: size, an opening line that says what it is for, and no word of the machine it was
//! written on.

use crate::shell::{output, workspace_root};
use anyhow::{Context, Result};
use std::{fs, process::Command};

/// A source file longer than this has two subjects. Tests may be longer: a table of cases is one.
const MOST_LINES: usize = 600;
/// No file of ours is larger; what is larger was made by something and does not belong here.
const MOST_BYTES: u64 = 1 << 20;

/// Split so that this file does not hold what it looks for.
const FORBIDDEN: [(&str, &str); 6] = [
    (concat!("/wo", "rk/"), "a path of somebody's machine"),
    (concat!("/ro", "ot/"), "a path of somebody's machine"),
    (concat!("/ho", "me/"), "a path of somebody's machine"),
    (concat!("../sha", "red"), "a path outside the repository"),
    (concat!("todo", "!("), "unfinished work"),
    (concat!("unimplemented", "!("), "unfinished work"),
];

pub fn complaints() -> Result<Vec<String>> {
    let root = workspace_root();
    let mut git = Command::new("git");
    let listed =
        output(git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root))?;
    let mut complaints = vec![];
    for name in listed.lines() {
        let path = root.join(name);
        // Deleted, but not yet in git's index.
        let Ok(meta) = fs::metadata(&path) else { continue };
        if meta.len() > MOST_BYTES {
            complaints.push(format!("{name}: {} bytes; no file of ours is that large", meta.len()));
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("read {name}"))?;
        // Pictures and the like hold no words.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        complaints.extend(of(name, &text));
    }
    Ok(complaints)
}

fn of(name: &str, text: &str) -> Vec<String> {
    let mut complaints = vec![];
    for (line, content) in text.lines().enumerate() {
        for (word, why) in FORBIDDEN {
            if content.contains(word) {
                complaints.push(format!("{name}:{}: {word:?} is {why}", line + 1));
            }
        }
    }
    if !name.ends_with(".rs") {
        return complaints;
    }
    let is_test = name.starts_with("tests/") || name.contains("/tests/") || name.ends_with("/tests.rs");
    let lines = text.lines().count();
    if lines > MOST_LINES && !is_test {
        complaints.push(format!("{name}: {lines} lines; a file has one subject and at most {MOST_LINES}"));
    }
    if !is_test && !text.starts_with("//!") {
        complaints.push(format!("{name}: the first line must say what the file owns (`//! …`)"));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_path_is_found_with_its_line() {
        let text = format!("//! x\nlet path = \"{}\";\n", concat!("/ho", "me/somebody"));
        assert_eq!(of("a.rs", &text), ["a.rs:2: \"/ho\u{6d}e/\" is a path of somebody's machine"]);
    }

    #[test]
    fn long_files_and_files_without_a_subject_are_told() {
        let long = "let x = 1;\n".repeat(MOST_LINES + 1);
        assert_eq!(of("proxy/src/a.rs", &long).len(), 2);
        assert_eq!(of("proxy/src/a/tests.rs", &long).len(), 0);
    }
}
