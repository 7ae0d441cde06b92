//! What a replica knows of its place among the others. In standalone mode there are none, and it never changes.

/// Both are false until the API server has said something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Another replica holds the Lease: it is the one that keeps telemetry.
    pub elsewhere: bool,
    /// The API server has not answered us for so long that other replicas may know more.
    pub cut_off: bool,
}
