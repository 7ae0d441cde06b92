//! Gives up what redirection needed, for good: no request is ever served by root, or with a capability.

use anyhow::{Context as _, ensure};
use rustix::{
    process::{DumpableBehavior, Uid, set_dumpable_behavior},
    thread::{capabilities, set_no_new_privs, set_thread_uid},
};

/// Becomes this user. User and capabilities are a thread's own, so this is called while there is one. Groups stay as they are: kubelet
/// may have made the token readable for one of them.
pub fn to(uid: u32) -> anyhow::Result<()> {
    ensure!(uid != 0, "the proxy would stay root: name another user (--proxy-uid)");
    set_no_new_privs(true).context("forbid new privileges")?;
    set_thread_uid(Uid::from_raw(uid))
        .with_context(|| format!("become user {uid}, for which root needs the capability SETUID"))?;
    let left = capabilities(None).context("read what capabilities are left")?;
    ensure!(
        left.effective.is_empty() && left.permitted.is_empty(),
        "user {uid} has capabilities left: {:?}",
        left.permitted
    );
    // The kernel closes /proc to a process that has changed its user; the proxy counts its open files there.
    set_dumpable_behavior(DumpableBehavior::Dumpable).context("read our own /proc again")
}
