//! Names of the story's own: a hosts file that only the calling thread and what it starts can see.

#![allow(unsafe_code)] // unshare has no safe form; its use says why it is sound.

use std::{ffi::OsStr, fs, io, process::Command};
use tempfile::NamedTempFile;

#[derive(Debug)]
pub struct Hosts(NamedTempFile);

impl Hosts {
    /// Panics where we may not: such a story is worth nothing without it.
    pub fn new() -> Hosts {
        let file = NamedTempFile::new().expect("a temporary file");
        // SAFETY: CLONE_NEWNS changes only which mounts the calling thread sees; no memory or descriptor is affected.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNS) };
        assert_eq!(unshared, 0, "mounts of its own: {} (run this as root)", io::Error::last_os_error());
        let [private, root, bind, etc] = ["--make-rprivate", "/", "--bind", "/etc/hosts"].map(OsStr::new);
        for arguments in [&[private, root][..], &[bind, file.path().as_os_str(), etc]] {
            let status = Command::new("mount").args(arguments).status().expect("the program mount");
            assert!(status.success(), "mount {arguments:?}");
        }
        Hosts(file)
    }

    /// From now on, these and no others.
    pub fn say(&self, lines: &str) {
        fs::write(self.0.path(), lines).expect("a file of our own can be written");
    }
}

impl Default for Hosts {
    fn default() -> Self {
        Hosts::new()
    }
}
