//! Where the executables under test are: beside the test's own, in cargo's target directory.

use std::{env, path::PathBuf};

/// Path of an executable of this workspace, such as `mesh-proxy`. Panics with the remedy when it is not built.
pub fn path(name: &str) -> PathBuf {
    let here = env::current_exe().expect("a running test knows its own path");
    // target/<profile>/deps/<test executable>
    let profile = here.parent().and_then(|deps| deps.parent()).expect("cargo puts tests two folders deep");
    let path = profile.join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo xtask test`, or `cargo build` before `cargo test -p mesh-tests`",
        path.display()
    );
    path
}

/// The workspace's root, for the demo's manifests. That of the checkout in which cargo was called: what was compiled in may be another
/// one that shares its target folder with this.
pub fn workspace() -> PathBuf {
    let called_in = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let tests = called_in.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    tests.parent().expect("tests/ is a folder of the workspace").to_owned()
}
