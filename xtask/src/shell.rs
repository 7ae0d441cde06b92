//! Runs other programs: says what runs, and fails with its name.

use crate::wasm_target::host_cargo;
use anyhow::{Context, Result, ensure};
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

/// Of the checkout that cargo was called in. What was compiled in may be another one that shares its target folder with this.
pub fn workspace_root() -> &'static Path {
    static XTASK: LazyLock<PathBuf> = LazyLock::new(|| {
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
    });
    XTASK.parent().expect("xtask lies in the workspace")
}

/// Cargo in the workspace's root.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(host_cargo());
    command.args(args).current_dir(workspace_root());
    command
}

/// Runs to the end, output where ours goes.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("+ {line}");
    let status = command.status().with_context(|| format!("run {line}"))?;
    ensure!(status.success(), "{line}: {status}");
    Ok(())
}

/// Runs to the end and returns what it wrote.
pub fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("run {line}"))?;
    ensure!(output.status.success(), "{line}: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{line} wrote something else than text"))
}

/// Whether a program of this name can be started. Where the system's own programs are is not in everybody's path.
pub fn exists(program: &str) -> bool {
    let paths = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&paths).chain(system).any(|dir| dir.join(program).is_file())
}

/// The folder with the programs that `cargo build` made.
pub fn binaries() -> Result<PathBuf> {
    let target = env::current_exe().context("find this program's own file")?;
    let folder = target.parent().context("find this program's own folder")?;
    Ok(folder.to_owned())
}

/// Where we keep what is made once for all checkouts.
pub fn cache() -> Result<PathBuf> {
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    Ok(base.context("find the cache folder: neither XDG_CACHE_HOME nor HOME is set")?.join("mesh"))
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}
