//! Names that DNS can carry and a certificate prove, as RFC 1123, 2.1 has them, in lower case. Others would be let through here and
//! refused by whoever meets them first: a proxy, for its identity or a whole policy.

/// As Kubernetes has it for a Namespace: 1 to 63 of a to z, 0 to 9 and -, which is neither first nor last.
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Labels with dots between them, 253 bytes at most. The last label has more than digits, or it would be an address.
pub fn is_name(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_certificate_can_prove() {
        let long = |label: usize| format!("{}.local", "a".repeat(label));
        for text in ["cluster.local", "prod-1.example.com", "mesh", "1.a", &long(63)] {
            assert!(is_name(text), "{text}");
        }
        let parts = ["abcdefghi"; 26].join(".");
        for text in [
            "",
            "Prod.Example.com",
            "prod_eu",
            ".local",
            "local.",
            "a..b",
            "-a.b",
            "a-.b",
            "10.0.0.1",
            &long(64),
            &parts,
        ] {
            assert!(!is_name(text), "{text:?}");
        }
    }
}
