//! Keeps released programs small, on disk and in memory: relocations in their packed form, and equal functions once.

use std::env;

/// For the program of the crate whose build script calls it.
pub fn link() {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    // Understood by every linker since 2022, and by glibc 2.36 and musl 1.2.4.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // Only lld folds; rustc brings it along on this one target.
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
