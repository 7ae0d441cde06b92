//! Client libraries that others wrote, and the checker of accessibility: installed once into the user's cache, in the exact
//! versions that `clients/` pins. Call these before a story starts: within its own network there is no registry.

use crate::binaries;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

static INSTALLING: Mutex<()> = Mutex::new(());

/// The interpreter of an environment with what `clients/requirements.txt` lists.
pub fn python() -> PathBuf {
    let wanted = read("requirements.txt");
    let dir = installed("python", &wanted, |dir| {
        run(Command::new("python3").args(["-m", "venv"]).arg(dir), "apt-get install python3-venv");
        let requirements = clients().join("requirements.txt");
        let pip = dir.join("bin/pip");
        run(
            Command::new(pip).args(["install", "--quiet", "--requirement"]).arg(requirements),
            "reach a Python registry",
        );
    });
    dir.join("bin/python")
}

/// A folder whose `node_modules` holds what `clients/package-lock.json` lists.
pub fn node() -> PathBuf {
    let wanted = read("package-lock.json");
    installed("node", &wanted, |dir| {
        fs::create_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        for file in ["package.json", "package-lock.json"] {
            fs::write(dir.join(file), read(file))
                .unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        }
        let npm = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
        run(Command::new("npm").args(npm).current_dir(dir), "apt-get install nodejs npm");
    })
}

/// The folder for exactly this list, made on first use. A half-made one does not count: the mark comes last.
fn installed(kind: &str, wanted: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let cache = cache();
    fs::create_dir_all(&cache).unwrap_or_else(|error| panic!("{}: {error}", cache.display()));
    let lock =
        fs::File::create(cache.join("lock")).unwrap_or_else(|error| panic!("{}: {error}", cache.display()));
    let _ = rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive);
    let dir = cache.join(format!("{kind}-{:016x}", digest(wanted)));
    let mark = dir.join("complete");
    if !mark.exists() {
        let _ = fs::remove_dir_all(&dir);
        make(&dir);
        fs::write(&mark, "").unwrap_or_else(|error| panic!("{}: {error}", mark.display()));
    }
    dir
}

fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(std::env::temp_dir).join("mesh-tests")
}

/// FNV-1a: names a folder, guards nothing.
fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

pub fn clients() -> PathBuf {
    binaries::workspace().join("tests/clients")
}

fn read(file: &str) -> String {
    let path = clients().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn run(command: &mut Command, remedy: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (remedy: {remedy})"));
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {} (remedy: {remedy})", said());
}
