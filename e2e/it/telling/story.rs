//! Runs one test as a story: on a thread that lives in the node's network, in a namespace of its own, with a deadline. What failed in
//! the namespace is printed when the story fails.

use super::place::Place;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use mesh_e2e::node::{Node, enter};
use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::RwLock,
    thread,
    time::Duration,
};

/// No story takes longer; one that does has lost its way.
const DEADLINE: Duration = Duration::from_secs(300);
/// The same where a story repeats as often as a release wants what may go wrong by chance.
const LONG_DEADLINE: Duration = Duration::from_secs(1_800);

/// Whether stories are told in full.
pub fn is_long() -> bool {
    env::var_os("MESH_E2E_LONG").is_some()
}

/// The node that stories happen on.
pub fn node() -> Node {
    let name = env::var("MESH_E2E_NODE").unwrap_or_else(|_| "e2e".to_owned());
    Node::named(&name).expect("MESH_E2E_NODE names a node")
}

/// Held for reading by ordinary stories, and for writing by those that disturb all others or measure time.
static CLUSTER: RwLock<()> = RwLock::new(());

/// Tells a story beside others; its namespace has this name.
pub fn tell(name: &str, story: impl AsyncFnOnce(&Place) + Send + 'static) {
    let _beside = CLUSTER.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    on_own_thread(name, story);
}

/// Tells a story that has the cluster to itself.
pub fn tell_alone(name: &str, story: impl AsyncFnOnce(&Place) + Send + 'static) {
    let _alone = CLUSTER.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    on_own_thread(name, story);
}

/// A network namespace belongs to a thread.
fn on_own_thread(name: &str, story: impl AsyncFnOnce(&Place) + Send + 'static) {
    let name = name.to_owned();
    let told = thread::spawn(move || {
        let node = node();
        enter::network(&node).unwrap_or_else(|error| panic!("{error:#}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Place::new(&name, client(&node).await, node).await;
            let outcome = {
                let deadline = if is_long() { LONG_DEADLINE } else { DEADLINE };
                let told = tokio::time::timeout(deadline, story(&place));
                let told = futures_util::FutureExt::catch_unwind(AssertUnwindSafe(told)).await;
                told.and_then(|in_time| {
                    catch_unwind(|| {
                        in_time.unwrap_or_else(|_| panic!("the story was not over after {deadline:?}"))
                    })
                })
            };
            if outcome.is_err() {
                place.print().await;
            }
            place.leave().await;
            outcome
        })
    });
    match told.join() {
        Ok(Ok(())) => {}
        Ok(Err(panic)) | Err(panic) => resume_unwind(panic),
    }
}

async fn client(node: &Node) -> Client {
    let file = Kubeconfig::read_from(node.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}
