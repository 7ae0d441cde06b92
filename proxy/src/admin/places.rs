//! Places for clients, of which one host may hold a few: whoever takes many keeps nobody else waiting, kubelet above all, which would
//! start us anew.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Clients at a time.
const MOST: usize = 512;
/// Of these, one host's. The Pod itself may have all.
const MOST_OF_A_HOST: usize = 16;

#[derive(Debug, Default)]
pub struct Places(Mutex<HashMap<IpAddr, usize>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    host: IpAddr,
}

impl Places {
    /// `None` where there is none left, or none for this host.
    pub fn take(self: &Arc<Places>, host: IpAddr) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let most = if host.is_loopback() { MOST } else { MOST_OF_A_HOST };
        let its_own = taken.get(&host).copied().unwrap_or_default();
        if its_own >= most || taken.values().sum::<usize>() >= MOST {
            return None;
        }
        taken.insert(host, its_own + 1);
        Some(Place { places: self.clone(), host })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.get(&self.host).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => taken.remove(&self.host),
            left => taken.insert(self.host, left),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_cannot_take_the_places_of_others() {
        let places = Arc::<Places>::default();
        let take = |host: &str| places.take(host.parse().unwrap());
        let mut held: Vec<Place> = (0..1_000).filter_map(|_| take("10.0.0.1")).collect();
        assert_eq!(held.len(), MOST_OF_A_HOST);
        assert!(take("10.0.0.2").is_some());
        held.pop();
        assert!(take("10.0.0.1").is_some());
        let local: Vec<Place> = (0..1_000).filter_map(|_| take("127.0.0.1")).collect();
        assert_eq!(held.len() + local.len(), MOST);
        assert!(take("10.0.0.3").is_none());
        drop((held, local));
        assert!(places.0.lock().unwrap().is_empty());
    }
}
