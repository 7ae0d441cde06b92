//! Our proxy under a control plane that is not ours: every message of the published API, good, bad, late and missing.

mod balancing;
mod destination;
mod identity;
mod inbound;
mod kinds;
mod mtls;
mod outbound;
mod redirected;
mod rules;
mod telemetry;
