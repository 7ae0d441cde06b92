//! Stories and laws about policy: YAML in, answers out.

mod authorization;
mod fixture;
mod laws;
mod outbound;
mod status;
