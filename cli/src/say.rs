//! Standard output. A reader that has gone away (`mesh stat | head -1`) is no error and no reason to panic.

use std::io::Write;

pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
