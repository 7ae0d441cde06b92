//! What the proxy tells of its work: metrics, spans, access log. Handles are found when policy is built; recording in the
//! request path is a few additions to worker-local counters.
