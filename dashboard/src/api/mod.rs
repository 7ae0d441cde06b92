//! The operator's API: single answers (`fetch`) and the live stream (`feed`).

pub mod feed;
pub mod fetch;
