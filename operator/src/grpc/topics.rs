//! One answer for all who ask the same. A topic lives while somebody listens: after a change its answer is computed once, where the
//! change may have touched it, and encoded once per step that subscribers take.

mod shelves;

use self::shelves::Shelves;
use super::{admission::Streams, stream::Subscription};
use crate::rate::Peer;
use bytes::Bytes;
use futures_util::Stream;
use mesh_policy::Tables;
use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};
use tokio::sync::watch;
use tonic::Status;

/// Steps from one answer to the next one, as they go over the wire.
pub type Steps = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// What a proxy asks.
pub trait Question: Clone + Eq + Hash + Send + Sync + 'static {
    type Answer: PartialEq + Send + Sync + 'static;
    /// What a subscriber has of its own that its messages depend on.
    type Listener: Clone + Eq + Hash + Send + Sync + 'static;

    /// The Service, by namespace and name, whose endpoints the answer tells. As long as nothing but endpoints changes, no others matter.
    fn service(&self) -> Option<(&str, &str)>;

    /// Whether the answer is certainly what it was. Costs far less than the answer.
    fn is_unchanged(&self, before: &Tables, now: &Tables) -> bool;

    /// An error refuses a subscription; later it ends the stream with OK, and the subscriber, who keeps what it has, asks again.
    fn answer(&self, tables: &Tables) -> Result<Self::Answer, Status>;

    /// The messages that lead a subscriber from one answer to another one, as they go over the wire.
    fn step(before: Option<&Self::Answer>, now: &Self::Answer, listener: &Self::Listener) -> Bytes;
}

/// An answer, numbered within its topic.
pub struct Version<Q: Question> {
    number: u64,
    answer: Q::Answer,
    /// By the version that the subscriber had, and the subscriber. As many as there are different ones of these. The first who asks
    /// is often the only one: steps are kept from the second on.
    encoded: Mutex<HashMap<(Option<u64>, Q::Listener), Option<Bytes>>>,
}

impl<Q: Question> Version<Q> {
    fn new(number: u64, answer: Q::Answer) -> Arc<Version<Q>> {
        Arc::new(Version { number, answer, encoded: Mutex::default() })
    }

    /// What leads from `before` to here. Empty where nothing does.
    pub fn step(&self, before: Option<&Version<Q>>, listener: &Q::Listener) -> Bytes {
        let before = before.filter(|before| before.number != self.number);
        let key = (before.map(|before| before.number), listener.clone());
        let encode = || match before {
            // There and back again, for one that missed what was between.
            Some(before) if before.answer == self.answer => Bytes::new(),
            before => Q::step(before.map(|before| &before.answer), &self.answer, listener),
        };
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        match encoded.entry(key) {
            Entry::Occupied(kept) => kept.into_mut().get_or_insert_with(encode).clone(),
            Entry::Vacant(first) => {
                first.insert(None);
                encode()
            }
        }
    }
}

/// What subscribers hear of a topic. When its sender is gone, their streams end.
pub type Latest<Q> = watch::Receiver<Arc<Version<Q>>>;

/// All topics of one kind of question. Clones are the same.
pub struct Topics<Q: Question>(Arc<Inner<Q>>);

struct Inner<Q: Question> {
    tables: watch::Receiver<Arc<Tables>>,
    streams: Arc<Streams>,
    open: Mutex<Open<Q>>,
}

struct Open<Q: Question> {
    /// The tables of which all answers are.
    of: Arc<Tables>,
    topics: Shelves<Q>,
    /// Answers that have been replaced, for as long as some subscriber has not taken the next.
    replaced: Vec<Weak<Version<Q>>>,
    /// With as many topics it is time to forget those that nobody listens to: twice those of the last time.
    sweep_at: usize,
    stopped: bool,
}

/// So few topics are kept without a look.
const FEW: usize = 256;

impl<Q: Question> Clone for Topics<Q> {
    fn clone(&self) -> Self {
        Topics(self.0.clone())
    }
}

impl<Q: Question> Topics<Q> {
    /// Kept current by a task of their own, until `stop`: then all streams end with OK, and subscribers come back elsewhere or later.
    pub fn new(
        tables: watch::Receiver<Arc<Tables>>,
        streams: Arc<Streams>,
        mut stop: watch::Receiver<bool>,
    ) -> Topics<Q> {
        let of = tables.borrow().clone();
        let mut changes = tables.clone();
        let open = Mutex::new(Open {
            of,
            topics: Shelves::default(),
            replaced: vec![],
            sweep_at: FEW,
            stopped: false,
        });
        let topics = Topics(Arc::new(Inner { tables, streams, open }));
        let ours = topics.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { break },
                    // An error means that whoever could stop us is gone: the same as being stopped.
                    _ = stop.wait_for(|stop| *stop) => break,
                }
                changes.mark_unchanged();
                drop(ours.current());
            }
            let mut open = ours.open();
            open.stopped = true;
            open.topics.clear();
        });
        topics
    }

    pub fn now(&self) -> Arc<Tables> {
        self.0.tables.borrow().clone()
    }

    /// One answer, encoded.
    pub fn ask(&self, question: &Q, listener: &Q::Listener) -> Result<Bytes, Status> {
        let answer = question.answer(&self.now())?;
        Ok(Q::step(None, &answer, listener))
    }

    /// All answers from now on. `listener` is asked before each message, and whether the question is still the one to ask: if not, the
    /// stream ends with that message, and the subscriber asks again.
    pub fn watch(
        &self,
        peer: Peer,
        question: &Q,
        listener: impl Fn(&Tables) -> (Q::Listener, bool) + Send + 'static,
    ) -> Result<Steps, Status> {
        let permit = self.0.streams.admit(peer, Instant::now())?;
        let latest = self.subscribe(question)?;
        let tables = self.0.tables.clone();
        let subscription = Subscription::new(latest, move || listener(&tables.borrow()), permit);
        Ok(Box::pin(subscription.steps()))
    }

    /// Whether every subscriber has taken what follows from the newest tables: one that has not still holds the answer before.
    pub fn have_all(&self) -> bool {
        let mut open = self.current();
        open.replaced.retain(|version| version.strong_count() > 0);
        open.replaced.is_empty()
    }

    fn subscribe(&self, question: &Q) -> Result<Latest<Q>, Status> {
        let mut open = self.current();
        if open.stopped {
            return Err(Status::unavailable("the operator is stopping"));
        }
        if let Some(topic) = open.topics.get(question) {
            return Ok(topic.subscribe());
        }
        if open.topics.len() >= open.sweep_at {
            open.topics.retain(|_, topic| topic.receiver_count() > 0);
            open.sweep_at = FEW.max(2 * open.topics.len());
        }
        let (topic, latest) = watch::channel(Version::new(0, question.answer(&open.of)?));
        open.topics.insert(question.clone(), topic);
        Ok(latest)
    }

    /// The topics, brought up to date.
    fn current(&self) -> MutexGuard<'_, Open<Q>> {
        let mut open = self.open();
        let now = self.now();
        if Arc::ptr_eq(&open.of, &now) {
            return open;
        }
        let before = std::mem::replace(&mut open.of, now.clone());
        let Open { topics, replaced, .. } = &mut *open;
        replaced.retain(|version| version.strong_count() > 0);
        let mut bring_up = |question: &Q, topic: &watch::Sender<Arc<Version<Q>>>| {
            if topic.receiver_count() == 0 {
                return false;
            }
            if question.is_unchanged(&before, &now) {
                return true;
            }
            // Without a topic, its streams end.
            let Ok(answer) = question.answer(&now) else { return false };
            topic.send_if_modified(|latest| {
                let is_new = latest.answer != answer;
                if is_new {
                    let next = Version::new(latest.number + 1, answer);
                    replaced.push(Arc::downgrade(&std::mem::replace(latest, next)));
                }
                is_new
            });
            true
        };
        match now.moved_since(&before) {
            Some(moved) => {
                for (namespace, name) in moved {
                    topics.retain_of((namespace, name), &mut bring_up);
                }
            }
            None => topics.retain(bring_up),
        }
        open
    }

    fn open(&self) -> MutexGuard<'_, Open<Q>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use mesh_policy::{Settings, World};

    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Number(u32);

    impl Question for Number {
        type Answer = u32;
        type Listener = ();

        fn service(&self) -> Option<(&str, &str)> {
            None
        }

        fn is_unchanged(&self, _: &Tables, _: &Tables) -> bool {
            true
        }

        fn answer(&self, _: &Tables) -> Result<u32, Status> {
            Ok(self.0)
        }

        fn step(_: Option<&u32>, now: &u32, _: &()) -> Bytes {
            now.to_string().into()
        }
    }

    /// However many questions somebody thinks of, without a change of the world.
    #[tokio::test]
    async fn topics_that_nobody_listens_to_are_forgotten() {
        let (_tables, tables) =
            watch::channel(Arc::new(Tables::build(&World::default(), &Settings::default())));
        let (_stop, stop) = watch::channel(false);
        let topics = Topics::new(tables, Arc::default(), stop);
        let kept: Vec<_> = (0..100).map(|number| topics.subscribe(&Number(number)).unwrap()).collect();
        for number in 1_000..100_000 {
            drop(topics.subscribe(&Number(number)).unwrap());
        }
        let open = topics.open();
        assert!(open.topics.len() <= FEW, "{}", open.topics.len());
        assert!(kept.iter().enumerate().all(|(number, _)| open.topics.get(&Number(number as u32)).is_some()));
    }

    /// How many Pods there are.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Pods;

    impl Question for Pods {
        type Answer = usize;
        type Listener = ();

        fn service(&self) -> Option<(&str, &str)> {
            None
        }

        fn is_unchanged(&self, _: &Tables, _: &Tables) -> bool {
            false
        }

        fn answer(&self, tables: &Tables) -> Result<usize, Status> {
            Ok(tables.pods().len())
        }

        fn step(_: Option<&usize>, now: &usize, _: &()) -> Bytes {
            now.to_string().into()
        }
    }

    #[tokio::test]
    async fn who_has_not_taken_the_newest_answer_is_known() {
        let tables_of = |ips: &[&str]| {
            let pod = |ip: &&str| {
                let pod = serde_json::json!({"metadata": {"name": ip, "namespace": "shop"}, "spec": {"containers": []}, "status": {"podIP": ip}});
                Arc::new(serde_json::from_value(pod).unwrap())
            };
            let pods = ips.iter().map(pod).collect::<Vec<_>>().into();
            Arc::new(Tables::build(&World { pods, ..World::default() }, &Settings::default()))
        };
        let (publish, tables) = watch::channel(tables_of(&[]));
        let (_stop, stop) = watch::channel(false);
        let topics = Topics::new(tables, Arc::default(), stop);
        let watch = || topics.watch(Peer::Unknown, &Pods, |_| ((), true)).unwrap();
        let (mut reads, mut stands_still) = (watch(), watch());
        assert!(reads.next().await.is_some() && stands_still.next().await.is_some());
        assert!(topics.have_all());
        publish.send_replace(tables_of(&["10.0.0.1"]));
        assert!(!topics.have_all(), "nobody has read");
        assert_eq!(reads.next().await.unwrap(), "1");
        assert!(!topics.have_all(), "one has");
        let late = watch();
        drop(stands_still);
        assert!(topics.have_all(), "who comes late or has gone is not waited for");
        drop(late);
    }
}
