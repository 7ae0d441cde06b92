//! Topics by what they are about, so that a change of one Service's endpoints looks at its topics and at no others: at ten thousand, a
//! look at each is most of what a change costs.

use super::{Question, Version};
use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
};
use tokio::sync::watch;

type Topic<Q> = watch::Sender<Arc<Version<Q>>>;

pub struct Shelves<Q: Question> {
    hashes: RandomState,
    /// By the hash of the Service that they tell of, or else of the question. Most hold one, and need no room for more; a Service whose
    /// traffic stays on its node has one for each node.
    shelves: HashMap<u64, Vec<(Q, Topic<Q>)>>,
    len: usize,
}

impl<Q: Question> Default for Shelves<Q> {
    fn default() -> Self {
        Shelves { hashes: RandomState::new(), shelves: HashMap::new(), len: 0 }
    }
}

impl<Q: Question> Shelves<Q> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, question: &Q) -> Option<&Topic<Q>> {
        let shelf = self.shelves.get(&self.key(question))?;
        shelf.iter().find(|(own, _)| own == question).map(|(_, topic)| topic)
    }

    /// One that is not there yet.
    pub fn insert(&mut self, question: Q, topic: Topic<Q>) {
        let shelf = self.shelves.entry(self.key(&question)).or_default();
        if shelf.is_empty() {
            shelf.reserve_exact(1);
        }
        shelf.push((question, topic));
        self.len += 1;
    }

    pub fn clear(&mut self) {
        self.shelves.clear();
        self.len = 0;
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&Q, &Topic<Q>) -> bool) {
        self.shelves.retain(|_, shelf| {
            shelf.retain(|(question, topic)| keep(question, topic));
            !shelf.is_empty()
        });
        self.len = self.shelves.values().map(Vec::len).sum();
    }

    /// The same, of those that tell of a Service's endpoints. May look at a few others.
    pub fn retain_of(&mut self, service: (&str, &str), mut keep: impl FnMut(&Q, &Topic<Q>) -> bool) {
        let key = self.hashes.hash_one(Some(service));
        let Some(shelf) = self.shelves.get_mut(&key) else { return };
        let before = shelf.len();
        shelf.retain(|(question, topic)| keep(question, topic));
        self.len -= before - shelf.len();
        if shelf.is_empty() {
            self.shelves.remove(&key);
        }
    }

    fn key(&self, question: &Q) -> u64 {
        match question.service() {
            Some(service) => self.hashes.hash_one(Some(service)),
            None => self.hashes.hash_one(question),
        }
    }
}
