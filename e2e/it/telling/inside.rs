//! A thread in the network of a Pod. What runs on it sends and receives as the Pod's application does, redirection included, and
//! needs no program in the Pod's image.

use k8s_openapi::api::core::v1::Pod;
use mesh_e2e::node::Node;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{fs, os::fd::AsFd, path::Path, thread};
use tokio::sync::{mpsc, oneshot};

type Work = Box<dyn FnOnce() + Send>;

pub struct Inside {
    work: mpsc::Sender<Work>,
}

impl Inside {
    /// The Pod must have a container that runs.
    pub fn of(node: &Node, pod: &Pod) -> Inside {
        let init = node.running().unwrap_or_else(|error| panic!("{error:#}"));
        let uid = pod.metadata.uid.clone().unwrap();
        let pid = process_of(init.pid, &uid).unwrap_or_else(|| panic!("no process of pod {uid} runs"));
        let network = fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        // One thing at a time.
        let (work, mut todo) = mpsc::channel::<Work>(1);
        thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            while let Some(work) = todo.blocking_recv() {
                work();
            }
        });
        Inside { work }
    }

    /// Runs to its end over there.
    pub async fn run<T: Send + 'static>(&self, work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = oneshot::channel();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _ = tell.send(runtime.block_on(work()));
        };
        self.work.send(Box::new(work)).await.ok().unwrap();
        told.await.unwrap_or_else(|_| panic!("the work inside of a pod ended in a panic, see above"))
    }
}

/// The process of a Pod that runs a program of this name.
pub fn process(pod: &Pod, program: &str) -> u32 {
    let uid = pod.metadata.uid.as_deref().unwrap();
    let named = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == program)
    };
    processes_of(uid).into_iter().find(named).unwrap_or_else(|| panic!("no {program} of pod {uid} runs"))
}

/// A process of this Pod; of this node, whose processes share its process namespace or one below.
fn process_of(init: u32, uid: &str) -> Option<u32> {
    processes_of(uid).into_iter().find(|pid| *pid != init)
}

/// The processes of a Pod, found by its control group.
fn processes_of(uid: &str) -> Vec<u32> {
    let of_node = format!("pod{uid}");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let groups = fs::read_to_string(entry.path().join("cgroup")).ok()?;
        (groups.contains(&of_node) && runs(&entry.path())).then_some(pid)
    });
    own.collect()
}

fn runs(process: &Path) -> bool {
    fs::read_link(process.join("ns/net")).is_ok()
}
