//! Variables that kubelet puts into each container for the Services of its namespace. They are made of the Services' names, so one
//! that is called `mesh-proxy` makes some that begin as our settings do.

/// Whether a variable is such a one, and no setting that somebody misspelled.
pub fn is_service_link(name: &str, value: &str) -> bool {
    let numbered = || {
        let parts = name.split("_PORT_").skip(1);
        parts.into_iter().any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && value.contains("://"))
        || numbered()
}
