//! The book is whole: every link in our Markdown leads to a file, and every page of docs/ stands in the table of contents.

use crate::shell::{output, workspace_root};
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const CONTENTS: &str = "docs/SUMMARY.md";

pub fn complaints() -> Result<Vec<String>> {
    let root = workspace_root();
    let mut git = Command::new("git");
    let listed = output(
        git.args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"]).current_dir(root),
    )?;
    let mut complaints = vec![];
    let mut in_contents = BTreeSet::new();
    for name in listed.lines() {
        let path = root.join(name);
        if !path.exists() {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {name}"))?;
        for target in links(&text) {
            let file = path.parent().unwrap_or(root).join(target);
            match file.canonicalize() {
                Err(_) => complaints.push(format!("{name}: the link to {target} leads nowhere")),
                Ok(file) if name == CONTENTS => drop(in_contents.insert(file)),
                Ok(_) => {}
            }
        }
    }
    let pages = listed.lines().filter(|name| name.starts_with("docs/") && *name != CONTENTS);
    for name in pages {
        let Ok(path) = root.join(name).canonicalize() else { continue };
        if !in_contents.contains::<PathBuf>(&path) {
            complaints.push(format!("{name}: not in {CONTENTS}, so nobody finds it"));
        }
    }
    Ok(complaints)
}

/// Targets of `[text](target)` that are files: no web address, no anchor, nothing within code.
fn links(text: &str) -> Vec<&str> {
    let mut links = vec![];
    let mut in_code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // What stands between backticks is code as well: every second part.
        for part in line.split('`').step_by(2) {
            for rest in part.split("](").skip(1) {
                let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
                if !target.is_empty() && !target.contains("://") && !Path::new(target).is_absolute() {
                    links.push(target);
                }
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_followed() {
        let text = "[a](a.md) and [b](b/c.md#d), [w](https://x.y) `[no](code)` [here](#top)\n```\n[no](block.md)\n```\n";
        assert_eq!(links(text), ["a.md", "b/c.md"]);
    }
}
