//! Builds programs from Go modules into the user's cache: once for each content of the module's folder, whatever becomes of the
//! checkout. Nothing outside `go.sum` is built, and nothing is fetched but from Go's module proxy.

use crate::shell::{self, workspace_root};
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How often a long build says how far it is.
const NEWS: Duration = Duration::from_secs(20);

pub struct Module {
    /// Its folder below `e2e/node/`, and its name in the cache.
    pub name: &'static str,
    /// For people: what this is and how long two cores need for it.
    pub title: &'static str,
    /// What to build.
    pub packages: &'static [&'static str],
    /// Names that the linker sets.
    pub linked: &'static [(&'static str, &'static str)],
    /// The module's own tests too, as an executable of this name.
    pub test: Option<&'static str>,
}

impl Module {
    /// The folder with its programs; `finish` adds what is made of them. Waits when another process builds the same.
    pub fn build(&self, finish: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let source = source(self.name);
        let cache = cache()?;
        let built = cache.join(format!("{}-{}", self.name, self.fingerprint(&source)?));
        fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
        let lock = File::create(cache.join(format!("{}.lock", self.name))).context("create a lock file")?;
        lock.lock().with_context(|| format!("wait for another build of {}", self.name))?;
        if built.is_dir() {
            return Ok(built);
        }
        ensure!(
            shell::exists("go"),
            "{} is built from source, for which Go 1.26 or later is wanted: https://go.dev/dl",
            self.title
        );
        eprintln!("building {}, once", self.title);
        let start = Instant::now();
        let fresh = cache.join(format!("{}.new", self.name));
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(&fresh).with_context(|| format!("create {}", fresh.display()))?;
        self.compile(&source, &fresh)?;
        finish(&fresh)?;
        fs::rename(&fresh, &built).with_context(|| format!("move to {}", built.display()))?;
        eprintln!("{}: built in {}", self.name, seconds(start.elapsed()));
        Ok(built)
    }

    fn compile(&self, source: &Path, into: &Path) -> Result<()> {
        let wanted = self.count(source)?;
        let mut programs = Command::new("go");
        // The slash tells go that it is a folder even where there is one program only.
        programs.arg("build").arg("-o").arg(format!("{}/", into.display()));
        self.follow(programs, self.packages, source, wanted)?;
        let Some(name) = self.test else { return Ok(()) };
        let mut tests = Command::new("go");
        tests.args(["test", "-c"]).arg("-o").arg(into.join(name));
        self.follow(tests, &["."], source, wanted)
    }

    /// Runs it, and says now and then how far it is.
    fn follow(&self, mut go: Command, packages: &[&str], source: &Path, wanted: usize) -> Result<()> {
        go.args(["-v", "-buildvcs=false", "-trimpath", "-ldflags", &self.ldflags()])
            .args(packages)
            .current_dir(source)
            .env("CGO_ENABLED", "0")
            .stderr(Stdio::piped());
        let mut child = go.spawn().context("run go build")?;
        let lines = BufReader::new(child.stderr.take().context("read what go build says")?).lines();
        let (start, mut said) = (Instant::now(), Instant::now());
        let (mut compiled, mut complaints) = (0, String::new());
        for line in lines {
            let line = line.context("read what go build says")?;
            if line.starts_with("go: downloading") {
                continue;
            }
            // One import path a line; anything else is a complaint.
            if line.contains([' ', '\t', ':']) {
                complaints.push_str(&line);
                complaints.push('\n');
                continue;
            }
            compiled += 1;
            if said.elapsed() >= NEWS {
                said = Instant::now();
                eprintln!(
                    "  {}: {compiled} of at most {wanted} packages, {}",
                    self.name,
                    seconds(start.elapsed())
                );
            }
        }
        let status = child.wait().context("wait for go build")?;
        ensure!(status.success(), "go build in {}: {status}\n{complaints}", source.display());
        Ok(())
    }

    /// How many packages there are to compile when none has been yet.
    fn count(&self, source: &Path) -> Result<usize> {
        let mut list = Command::new("go");
        list.args(["list", "-deps"]).current_dir(source).env("CGO_ENABLED", "0");
        if self.test.is_some() {
            list.args(["-test", "."]);
        }
        list.args(self.packages);
        // Downloads are told on standard error, hundreds of lines of them.
        let output = list.stderr(Stdio::piped()).output().context("run go list")?;
        if !output.status.success() {
            bail!("go list in {}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout.iter().filter(|byte| **byte == b'\n').count())
    }

    fn ldflags(&self) -> String {
        let mut flags = String::from("-s -w");
        for (name, value) in self.linked {
            flags.push_str(&format!(" -X {name}={value}"));
        }
        flags
    }

    /// Names a content, guards nothing.
    fn fingerprint(&self, source: &Path) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.ldflags());
        // A change of how images are packed makes them anew.
        hash.update(include_bytes!("image.rs"));
        for path in files(source)? {
            hash.update(path.strip_prefix(source).unwrap_or(&path).to_string_lossy().as_bytes());
            hash.update(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        }
        let digest = hash.finalize();
        Ok(digest[..6].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Where a module lies.
pub fn source(name: &str) -> PathBuf {
    workspace_root().join("e2e/node").join(name)
}

/// All files below a folder, in an order that does not change.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![];
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", folder.display()))?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn cache() -> Result<PathBuf> {
    Ok(shell::cache()?.join("node"))
}

fn seconds(took: Duration) -> String {
    match took.as_secs() {
        secs @ ..60 => format!("{secs} s"),
        secs => format!("{} min {} s", secs / 60, secs % 60),
    }
}
