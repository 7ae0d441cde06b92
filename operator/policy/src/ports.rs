//! Lists of ports in annotations: `80,443,8000-8010`.

use std::{fmt, sync::Arc};

/// Inclusive ranges; cheap to clone, since most Pods have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Arc<[(u16, u16)]>);

impl PortSet {
    pub fn of(ports: &[u16]) -> PortSet {
        PortSet(ports.iter().map(|port| (*port, *port)).collect())
    }

    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&port))
    }

    /// Every item that can be read, and a sentence for each that cannot. An empty text is an empty set.
    pub fn parse(text: &str) -> (PortSet, Vec<String>) {
        let mut set = vec![];
        let mut bad = vec![];
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match range(item) {
                Some(range) => set.push(range),
                None => bad.push(format!("{item:?} is no port or range (want such as 3306 or 8000-8010)")),
            }
        }
        let set = if set.is_empty() { PortSet::default() } else { PortSet(set.into()) };
        (set, bad)
    }
}

/// As it is parsed.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (low, high)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match low == high {
                true => write!(f, "{comma}{low}")?,
                false => write!(f, "{comma}{low}-{high}")?,
            }
        }
        Ok(())
    }
}

fn range(item: &str) -> Option<(u16, u16)> {
    let (low, high) = item.split_once('-').unwrap_or((item, item));
    let (low, high): (u16, u16) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    (0 < low && low <= high).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::PortSet;

    #[test]
    fn ranges_and_rubbish() {
        let (set, bad) = PortSet::parse("80, 443,8000-8010,,0,70000,9-1,x");
        assert!([80, 443, 8000, 8010].iter().all(|port| set.contains(*port)));
        assert!(!set.contains(8011) && !set.contains(1));
        assert_eq!(bad.len(), 4, "{bad:?}");
        assert_eq!(set.to_string(), "80,443,8000-8010");
    }
}
