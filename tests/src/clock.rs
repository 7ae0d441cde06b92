//! A wall clock of the test's own, which processes go by and which can be set. Time that only passes, by which deadlines are kept,
//! stays the machine's. By libfaketime (Debian: `faketime`), whose library stands between a program and the kernel's clocks.

use crate::process::{self, Start};
use std::path::Path;
use tempfile::TempDir;

#[derive(Debug)]
pub struct Clock {
    dir: TempDir,
}

impl Clock {
    /// One that is right.
    pub fn right() -> Clock {
        let clock = Clock { dir: tempfile::tempdir().expect("a temporary folder") };
        clock.set("+0");
        clock
    }

    /// Sets it, for processes that run as well: `+20h`, `-3h`, counted from the right time.
    pub fn set(&self, offset: &str) {
        process::save(&self.dir.path().join("offset"), offset);
    }

    /// The process goes by this clock.
    pub fn rules(&self, start: Start) -> Start {
        let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
        assert!(Path::new(&library).exists(), "there is no {library}: apt-get install faketime");
        start
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", self.dir.path().join("offset"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }
}
