//! What the stories in `it/` are told with: a Kubernetes node of our own, namespaces on it, and ways to wait. Nothing in here knows
//! what is right; stories do.

pub mod node;
