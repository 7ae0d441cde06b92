//! Standard output. A reader that has gone away (`mesh stat | head -1`) is no error and no reason to panic; a full disk is an error, which
//! ends nothing that is under way.

use std::{
    io::{self, ErrorKind, Write},
    sync::atomic::{AtomicBool, Ordering},
};

static IS_LOST: AtomicBool = AtomicBool::new(false);

pub fn say(text: &str) {
    let mut out = io::stdout().lock();
    let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    if e.kind() != ErrorKind::BrokenPipe && !IS_LOST.swap(true, Ordering::Relaxed) {
        eprintln!("mesh: writing to standard output: {e}");
    }
}

/// Whether something that was to be said could not be.
pub fn is_lost() -> bool {
    IS_LOST.load(Ordering::Relaxed)
}
