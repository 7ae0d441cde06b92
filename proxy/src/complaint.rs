//! A warning about something that is tried again and again: said once, and again when it changes or goes on.

use std::time::{Duration, Instant};
use tracing::warn;

/// What goes on is told again after this long.
const REMIND: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub struct Complaint(Option<(String, Instant)>);

impl Complaint {
    pub fn tell(&mut self, text: &str) {
        if self.0.as_ref().is_some_and(|(last, at)| last == text && at.elapsed() < REMIND) {
            return;
        }
        warn!("{text}");
        self.0 = Some((text.to_owned(), Instant::now()));
    }
}
