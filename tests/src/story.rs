//! Runs one test as a story: on its own thread, in its own network namespace where we may make one, with a deadline, and with the
//! tail of every process's log printed when it fails.

use crate::{netns, process};
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::RwLock,
    thread,
    time::Duration,
};

/// No story takes longer; one that does has lost its way.
const DEADLINE: Duration = Duration::from_secs(180);

/// Held for reading by ordinary stories and for writing by those that measure time, which so have the machine to themselves.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs a story beside others.
pub fn run(story: impl AsyncFnOnce() + Send + 'static) {
    let _beside = MACHINE.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    on_own_thread(story);
}

/// Runs a story that judges by the clock: no other story of this executable runs meanwhile.
pub fn run_alone(story: impl AsyncFnOnce() + Send + 'static) {
    let _alone = MACHINE.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    on_own_thread(story);
}

/// A thread of its own, because a network namespace belongs to a thread and everything that the thread starts inherits it; and
/// because the kernel kills our child processes when the thread ends (see `process`).
fn on_own_thread(story: impl AsyncFnOnce() + Send + 'static) {
    let told = thread::spawn(move || {
        let _network = netns::enter();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime needs only a few file descriptors");
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                tokio::time::timeout(DEADLINE, story())
                    .await
                    .unwrap_or_else(|_| panic!("the story was not over after {DEADLINE:?}"))
            })
        }));
        if outcome.is_err() {
            process::print_logs();
        }
        drop(runtime);
        outcome
    });
    match told.join() {
        Ok(Ok(())) => {}
        Ok(Err(panic)) | Err(panic) => resume_unwind(panic),
    }
}
