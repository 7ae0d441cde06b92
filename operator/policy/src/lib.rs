//! operator/policy
