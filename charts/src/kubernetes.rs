//! Which versions of Kubernetes make a difference, each named by its minor number: all are 1.

/// The oldest whose webhooks look into an object before they are called (`matchConditions`); an older one refuses the field, or calls
/// the operator for every Pod there is.
pub const OLDEST: u32 = 28;

/// The first whose init containers may stay (`restartPolicy: Always`). An older API server does not know the field, and refuses the
/// probes of a container that it takes for one that ends; an older kubelet refuses the Pod.
pub const NATIVE_SIDECARS: u32 = 29;

/// Of `v1.28.15-eks-1a2b3c` it is 28; some providers write `1.29+`.
pub fn minor(version: &str) -> Option<u32> {
    let (major, rest) = version.strip_prefix('v').unwrap_or(version).split_once('.')?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    if major == "1" { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_a_minor_number() {
        for (version, expected) in [
            ("v1.34.4", Some(34)),
            ("v1.28.15-eks-1a2b3c", Some(28)),
            ("1.29+", Some(29)),
            ("1.30", Some(30)),
            ("v2.30.0", None),
            ("v1.x", None),
            (".", None),
            ("", None),
        ] {
            assert_eq!(minor(version), expected, "{version}");
        }
    }
}
