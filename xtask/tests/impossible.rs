//! A machine that cannot have a node is told so at once, in one line.

#![allow(clippy::unwrap_used)] // A test that cannot go on should say so at once.

use std::process::Command;

/// Without a path there is no `unshare` for root either; and nothing could be built or installed, if something tried.
#[test]
fn stories_on_a_cluster_refuse_before_they_build_anything() {
    for task in [&["e2e"][..], &["cluster", "up"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(task).env("PATH", "").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("xtask: a Kubernetes node cannot run here: "), "{said}");
    }
}
