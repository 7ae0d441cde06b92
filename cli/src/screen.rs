//! One live line. On a terminal it is rewritten in place; elsewhere each is a line of its own, and a step that has not changed is
//! not repeated.

use crate::say::say;
use indicatif::{ProgressBar, ProgressStyle};
use std::{io::IsTerminal, time::Duration};

#[derive(Debug)]
pub struct Screen {
    /// Only on a terminal.
    bar: Option<ProgressBar>,
    last: String,
}

impl Screen {
    pub fn new() -> Screen {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Screen { bar, last: String::new() }
    }

    pub fn step(&mut self, text: &str) {
        if text != self.last {
            self.show(text);
        }
    }

    pub fn live(&mut self, text: &str) {
        self.show(text);
    }

    fn show(&mut self, text: &str) {
        text.clone_into(&mut self.last);
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => eprintln!("{text}"),
        }
    }

    /// To standard output, above the live line.
    pub fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
