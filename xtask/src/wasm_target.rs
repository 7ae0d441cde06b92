//! Finds, or gets, a compiler that can build for wasm. First choice is the rustup target; where that cannot be
//! downloaded, Debian's `rustc-web` builds the standard library from source.

use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub const TRIPLE: &str = "wasm32-unknown-unknown";

const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// Who compiles the dashboard.
pub enum Toolchain {
    /// The toolchain that runs us, with the wasm target installed.
    Rustup,
    /// Debian's, which has no compiled standard library for wasm but its source; it links with `rust-lld`.
    Debian { linker: PathBuf },
}

impl Toolchain {
    /// A cargo command, before its arguments: the subcommand and `--target` are the caller's.
    pub fn cargo(&self) -> CargoCommand {
        let (mut command, tail) = match self {
            Toolchain::Rustup => (Command::new(host_cargo()), &[][..]),
            Toolchain::Debian { linker } => {
                let mut command = Command::new(DEBIAN_CARGO);
                command
                    .env("RUSTC", DEBIAN_RUSTC)
                    // build-std is a nightly option; Debian's own packages use it the same way.
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                    .env_remove("RUSTUP_TOOLCHAIN");
                (command, &["-Z", "build-std=std,panic_abort"][..])
            }
        };
        // Leptos then erases the types of views, of which there would else be a copy of code for each.
        command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "--cfg erase_components");
        CargoCommand { command, tail }
    }
}

/// A cargo call in the making, and what its toolchain wants at the end of it.
pub struct CargoCommand {
    command: Command,
    tail: &'static [&'static str],
}

impl CargoCommand {
    pub fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.command.args(args);
        self
    }

    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub fn status(mut self) -> std::io::Result<std::process::ExitStatus> {
        self.command.args(self.tail).status()
    }
}

/// The cargo that runs us.
pub fn host_cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Says in one line what it has to install.
pub fn find(root: &Path) -> Result<Toolchain> {
    let sysroot = sysroot(root)?;
    if has_target(&sysroot) {
        return Ok(Toolchain::Rustup);
    }
    eprintln!("dashboard: installing the wasm target: rustup target add {TRIPLE}");
    if succeeds(Command::new("rustup").args(["target", "add", TRIPLE]).current_dir(root))
        && has_target(&sysroot)
    {
        return Ok(Toolchain::Rustup);
    }
    debian(&sysroot).with_context(|| {
        format!("no compiler for wasm: `rustup target add {TRIPLE}` failed (see above), and Debian's does not help")
    })
}

fn debian(sysroot: &Path) -> Result<Toolchain> {
    let Some(linker) = rust_lld(sysroot) else { bail!("rust-lld is not in {}", sysroot.display()) };
    if !installed() {
        eprintln!("dashboard: installing Debian's: apt-get install {}", DEBIAN_PACKAGES.join(" "));
        let got = succeeds(
            Command::new("apt-get").args(["install", "-y", "--no-install-recommends"]).args(DEBIAN_PACKAGES),
        );
        if !got || !installed() {
            bail!("install it as root: apt-get install {}", DEBIAN_PACKAGES.join(" "));
        }
    }
    Ok(Toolchain::Debian { linker })
}

fn installed() -> bool {
    DEBIAN_PACKAGES.iter().all(|package| {
        let mut query = Command::new("dpkg");
        query.args(["-s", package]).stdout(Stdio::null()).stderr(Stdio::null());
        succeeds(&mut query)
    })
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

fn sysroot(root: &Path) -> Result<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .current_dir(root)
        .output()
        .context("running rustc")?;
    let text = String::from_utf8(output.stdout).context("rustc --print sysroot")?;
    Ok(PathBuf::from(text.trim()))
}

fn has_target(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib").join(TRIPLE).join("lib").is_dir()
}

/// The linker that every rustup toolchain brings for its own host.
fn rust_lld(sysroot: &Path) -> Option<PathBuf> {
    let hosts = std::fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
    hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|path| path.is_file())
}
