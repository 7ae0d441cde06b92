//! Child processes that a story owns: known by pid, killed when dropped or when the story's thread ends, their output kept.

#![allow(unsafe_code)] // `pre_exec` is unsafe; its one use says why it is sound.

use crate::wait;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::{
    cell::RefCell,
    fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

thread_local! {
    /// Logs of all processes of this story, in order of their start.
    static LOGS: RefCell<Vec<(String, fs::File)>> = const { RefCell::new(Vec::new()) };
}

/// A running executable. Dropping it kills it, and waits until it is gone.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: tokio::process::Child,
    log: fs::File,
}

/// What to start. Nothing of our own environment is passed on but `PATH` and `HOME`.
#[derive(Debug)]
pub struct Start {
    name: String,
    command: std::process::Command,
}

impl Start {
    pub fn new(name: &str, executable: impl AsRef<Path>) -> Start {
        let mut command = std::process::Command::new(executable.as_ref());
        command.env_clear().stdin(Stdio::null());
        for kept in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        Start { name: name.to_owned(), command }
    }

    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Start {
        self.command.arg(arg);
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item: AsRef<std::ffi::OsStr>>) -> Start {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: impl AsRef<std::ffi::OsStr>, value: impl AsRef<std::ffi::OsStr>) -> Start {
        self.command.env(name, value);
        self
    }

    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Start {
        self.command.current_dir(dir);
        self
    }

    /// The same, started by another program, which gets these arguments before it.
    pub fn through(self, program: &str, args: &[&str]) -> Start {
        let mut start = Start::new(&self.name, program).args(args);
        start.command.arg(self.command.get_program()).args(self.command.get_args());
        start.command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        start
    }

    /// Another group than ours.
    pub fn gid(mut self, gid: u32) -> Start {
        self.command.gid(gid);
        self
    }

    /// Starts it and lets it run.
    pub fn spawn(mut self) -> Process {
        let log = tempfile::tempfile().expect("a temporary file");
        self.command.stdout(log.try_clone().expect("a duplicate descriptor"));
        self.command.stderr(log.try_clone().expect("a duplicate descriptor"));
        die_with_parent(&mut self.command);
        let what = format!("{:?}", self.command.get_program());
        let child = tokio::process::Command::from(self.command)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        let pid =
            child.id().and_then(|pid| Pid::from_raw(pid as i32)).expect("a child just started has a pid");
        LOGS.with_borrow_mut(|logs| {
            logs.push((self.name.clone(), log.try_clone().expect("a duplicate descriptor")));
        });
        Process { name: self.name, pid, child, log }
    }

    /// Runs it to its end and returns what it printed.
    pub async fn output(mut self, within: Duration) -> Output {
        die_with_parent(&mut self.command);
        let what = format!("{} to end", self.name);
        let mut command = tokio::process::Command::from(self.command);
        command.kill_on_drop(true);
        wait::within(within, &what, command.output()).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }
}

fn die_with_parent(command: &mut std::process::Command) {
    // SAFETY: runs between fork and exec; `prctl` is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)
        });
    }
}

impl Drop for Process {
    /// Returns when it is gone: the next process may want the same address.
    fn drop(&mut self) {
        // Without an id it has been waited for, and its number may be another's.
        if self.child.id().is_some() && self.child.start_kill().is_ok() {
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _ = rustix::process::waitid(WaitId::Pid(self.pid), ended);
        }
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid, signal)
            .unwrap_or_else(|error| panic!("signal {}: {error}", self.name));
    }

    /// Waits for the process to end by itself.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} to exit", self.name);
        wait::within(within, &what, self.child.wait()).await.expect("a child can be waited for")
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// All it has printed so far, both streams in order.
    pub fn log(&self) -> String {
        read_all(&self.log)
    }

    /// Waits until it has printed a text; returns the line that holds it.
    pub async fn says(&mut self, text: &str, within: Duration) -> String {
        let what = format!("{} to print {text:?}", self.name);
        wait::until(&what, within, async || {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            Err(tail(&log, 5))
        })
        .await
    }

    /// Resident memory, from /proc.
    pub fn resident_bytes(&self) -> u64 {
        self.memory_bytes("VmRSS:")
    }

    /// The most it has had since its start, or since `forget_peak`.
    pub fn peak_resident_bytes(&self) -> u64 {
        self.memory_bytes("VmHWM:")
    }

    /// From now on peaks count anew.
    pub fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.pid());
        fs::write(&path, "5").unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// What `/proc/PID/status` says after a name, as in `VmRSS:`.
    pub fn status(&self, name: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().to_owned()
    }

    fn memory_bytes(&self, of: &str) -> u64 {
        let kib: u64 = self.status(of).trim_end_matches(" kB").parse().unwrap_or(0);
        kib * 1024
    }
}

/// Reads a log from its start without moving the offset that the child writes at: the descriptors share it.
fn read_all(log: &fs::File) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        match std::os::unix::fs::FileExt::read_at(log, &mut chunk, bytes.len() as u64) {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&bytes).into_owned(),
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// Prints the end of every log of this thread's processes, for a story that failed.
pub(crate) fn print_logs() {
    LOGS.with_borrow(|logs| {
        for (name, log) in logs {
            println!("---- {name}\n{}", tail(&read_all(log), 40));
        }
    });
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Writes a whole file in one step, as an editor that saves by renaming does.
pub fn save(path: &Path, text: &str) {
    let mut beside = PathBuf::from(path);
    beside.set_extension("saving");
    let mut file = fs::File::create(&beside).unwrap_or_else(|error| panic!("{}: {error}", beside.display()));
    file.write_all(text.as_bytes()).expect("a temporary folder has room");
    fs::rename(&beside, path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
