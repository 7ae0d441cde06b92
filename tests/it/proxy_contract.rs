//! Our proxy under a control plane that is not ours: every message of the published API, good, bad, late and missing.

mod balancing;
mod destination;
mod egress;
mod grpc_rules;
mod identity;
mod inbound;
mod kinds;
mod mtls;
mod outbound;
mod queue;
mod redirected;
mod rules;
mod streams;
mod telemetry;
