//! The watches that are in use: one stream per target, however many workers and requests want it.

use super::watch::{Patience, Subject, follow};
use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    rc::Rc,
};
use tokio::{sync::watch, task};

pub struct Table<K, V> {
    watches: Rc<RefCell<HashMap<K, watch::Sender<V>>>>,
    patience: Patience,
    most: usize,
}

impl<K: Clone + Eq + Hash + 'static, V: 'static> Table<K, V> {
    /// Holds `most` watches at once.
    pub fn new(patience: Patience, most: usize) -> Table<K, V> {
        Table { watches: Rc::default(), patience, most }
    }

    /// Joins a watch, or starts one with a first value. `None` when there are too many already.
    pub fn watch<S>(
        &self,
        key: K,
        first: impl FnOnce() -> V,
        subject: impl FnOnce() -> S,
    ) -> Option<watch::Receiver<V>>
    where
        S: Subject<Value = V> + 'static,
    {
        let mut watches = self.watches.borrow_mut();
        let count = watches.len();
        let vacant = match watches.entry(key.clone()) {
            Entry::Occupied(running) => return Some(running.get().subscribe()),
            Entry::Vacant(_) if count >= self.most => return None,
            Entry::Vacant(vacant) => vacant,
        };
        let (publish, receiver) = watch::channel(first());
        vacant.insert(publish.clone());
        let (table, patience, subject) = (self.watches.clone(), self.patience, subject());
        task::spawn_local(async move {
            follow(subject, &publish, patience).await;
            // Nothing awaits between the decision that it is unused and this line, so nobody can have joined.
            table.borrow_mut().remove(&key);
        });
        Some(receiver)
    }
}
