//! How stories are told: `story` gives each a namespace and a deadline, `place` is that namespace, `inside` is a Pod's network.

pub mod inside;
pub mod place;
pub mod story;
