//! The wall clock: one tick a second for everything that shows or waits for time.

use crate::format;
use leptos::prelude::*;
use std::time::Duration;

/// Unix milliseconds, renewed every second.
#[derive(Clone, Copy)]
pub struct Clock(RwSignal<f64>);

pub fn start() -> Clock {
    let clock = Clock(RwSignal::new(now_ms()));
    set_interval(move || clock.0.set(now_ms()), Duration::from_secs(1));
    clock
}

impl Clock {
    pub fn now_ms(self) -> f64 {
        self.0.get()
    }

    /// Changes once every `period_s` seconds.
    pub fn every(self, period_s: u32) -> Memo<u64> {
        Memo::new(move |_| (self.0.get() / 1_000.0) as u64 / u64::from(period_s.max(1)))
    }
}

pub fn now_ms() -> f64 {
    js_sys::Date::now()
}

/// Local time of day.
pub fn time_of_day(unix_ms: f64) -> String {
    let offset = js_sys::Date::new(&unix_ms.into()).get_timezone_offset();
    format::time_of_day(unix_ms, -(offset as i32))
}
