//! The processes of the demo: each with a log file, in a process group of its own, and bound to our life.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal};
use std::{
    fs::{self, File},
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Between SIGTERM and SIGKILL. Everything must be gone 2 s after it was asked to go.
const GRACE: Duration = Duration::from_millis(1_500);
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Children {
    logs: PathBuf,
    running: Vec<Child>,
}

#[derive(Debug)]
struct Child {
    name: String,
    process: process::Child,
    log: PathBuf,
}

impl Children {
    pub fn new(logs: PathBuf) -> Children {
        Children { logs, running: vec![] }
    }

    pub fn logs(&self) -> impl std::fmt::Display {
        self.logs.display()
    }

    /// Its output goes to `<name>.log`, from an empty file on.
    pub fn start(&mut self, name: &str, mut command: Command) -> anyhow::Result<()> {
        let log = self.logs.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let err = out.try_clone().with_context(|| format!("write {}", log.display()))?;
        // A group of its own: Ctrl-C at the terminal reaches us alone, and we end the others in good order.
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        die_with_us(&mut command);
        let process = command
            .spawn()
            .with_context(|| format!("start {name} ({})", command.get_program().to_string_lossy()))?;
        self.running.push(Child { name: name.to_owned(), process, log });
        Ok(())
    }

    /// An error that tells which child ended, how, and what it said last.
    pub fn all_alive(&mut self) -> anyhow::Result<()> {
        for child in &mut self.running {
            let status = child.process.try_wait().with_context(|| format!("look after {}", child.name))?;
            let Some(status) = status else { continue };
            // Who was killed had no last word.
            let last = if status.code().is_some() { last_line(&child.log) } else { None };
            let last = last.map(|line| format!(": {line:?}")).unwrap_or_default();
            bail!(
                "{} ended, {}{last}; its log is {}; nothing is left running, so start again once that is mended",
                child.name,
                how(status),
                child.log.display()
            );
        }
        Ok(())
    }

    fn stop(&mut self) {
        for child in &self.running {
            signal(child, Signal::TERM);
        }
        let deadline = Instant::now() + GRACE;
        while !self.running.is_empty() && Instant::now() < deadline {
            self.running.retain_mut(|child| matches!(child.process.try_wait(), Ok(None)));
            thread::sleep(LOOK_EVERY);
        }
        for child in &mut self.running {
            signal(child, Signal::KILL);
            // Reaped, or not ours to reap: in both cases it is gone.
            let _ = child.process.wait();
        }
        self.running.clear();
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.stop();
    }
}

/// To the whole group of a child that has not been reaped, so its number is still its own.
fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.process.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// Should we be killed without a chance to clean up, the kernel kills the child.
#[allow(unsafe_code)]
fn die_with_us(command: &mut Command) {
    let us = rustix::process::getpid();
    let bind = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // We may have died between fork and the line above: then nobody would send the signal.
        if rustix::process::getppid() != Some(us) {
            return Err(io::Error::other("the demo ended meanwhile"));
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes two system calls; it neither allocates (the error path
    // apart, which ends the child) nor takes a lock.
    unsafe { command.pre_exec(bind) };
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "for an unknown reason".into(),
    }
}

fn last_line(log: &Path) -> Option<String> {
    let text = fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn death_of(children: &mut Children) -> String {
        loop {
            if let Err(e) = children.all_alive() {
                return format!("{e:#}");
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    #[test]
    fn a_death_is_told_with_name_code_and_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut children = Children::new(dir.path().into());
        children.start("ratings-v1", shell("echo listen on 127.0.2.6:9080: taken >&2; exit 3")).unwrap();
        let message = death_of(&mut children);
        assert!(
            message.starts_with("ratings-v1 ended, exit code 3: \"listen on 127.0.2.6:9080: taken\""),
            "{message}"
        );
    }

    #[test]
    fn a_child_that_ignores_the_request_is_killed_in_time_and_so_is_its_own_child() {
        let dir = tempfile::tempdir().unwrap();
        let mut children = Children::new(dir.path().into());
        children.start("stubborn", shell("trap '' TERM; sleep 1000 & echo $!; wait; wait")).unwrap();
        let log = dir.path().join("stubborn.log");
        let grandchild = loop {
            match last_line(&log) {
                Some(line) => break line,
                None => thread::sleep(LOOK_EVERY),
            }
        };
        let asked = Instant::now();
        drop(children);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        // The kernel takes a moment to carry the signal out.
        while lives(&grandchild) {
            assert!(asked.elapsed() < Duration::from_secs(2), "the grandchild lives");
            thread::sleep(LOOK_EVERY);
        }
    }

    fn lives(pid: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }
}
