//! HTTP on both sides of the proxy: serving, checking, routing, changing, sending, answering for others when that fails.

pub mod authority;
pub mod body;
pub mod check;
pub mod client;
pub mod convert;
pub mod details;
pub mod error;
pub mod filter;
#[cfg(test)]
mod flood_tests;
pub mod gate;
#[cfg(test)]
mod h2_tests;
pub mod hop;
pub mod opening;
#[cfg(test)]
mod passage_tests;
pub mod record;
pub mod replay;
pub mod route;
pub mod server;
#[cfg(test)]
mod strict;
pub mod upgrade;
mod watched;

use std::future::Future;

/// Runs hyper's tasks on the worker they were made on.
#[derive(Clone, Copy, Debug)]
pub struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}
