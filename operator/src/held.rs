//! How much of something each may hold at the same time: streams of a peer, connections of a host.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Debug)]
pub struct Held<K> {
    most: u32,
    by_key: Mutex<HashMap<K, u32>>,
}

/// One of them, for as long as it is held.
#[derive(Debug)]
pub struct Place<K: Copy + Eq + Hash> {
    held: Arc<Held<K>>,
    key: K,
}

impl<K: Copy + Eq + Hash> Held<K> {
    pub fn new(most: u32) -> Arc<Held<K>> {
        Arc::new(Held { most, by_key: Mutex::default() })
    }

    /// `None` where this one holds as many as it may.
    pub fn take(self: &Arc<Held<K>>, key: K) -> Option<Place<K>> {
        let mut by_key = self.by_key();
        let count = by_key.entry(key).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { held: self.clone(), key })
    }

    pub fn is_empty(&self) -> bool {
        self.by_key().is_empty()
    }

    fn by_key(&self) -> MutexGuard<'_, HashMap<K, u32>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut by_key = self.held.by_key();
        let left = by_key.get(&self.key).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => by_key.remove(&self.key),
            left => by_key.insert(self.key, left),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_all_it_may_gets_no_more_until_it_lets_go() {
        let held = Held::new(2);
        let (first, second) = (held.take('a'), held.take('a'));
        assert!(first.is_some() && second.is_some());
        assert!(held.take('a').is_none() && held.take('b').is_some());
        drop(first);
        assert!(held.take('a').is_some());
        drop(second);
        assert!(held.is_empty());
    }
}
