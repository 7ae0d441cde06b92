//! A second node, for as long as a story wants one.

use super::place::Place;
use k8s_openapi::api::core::v1::Pod;
use mesh_e2e::node::Node;
use mesh_tests::binaries;
use std::{path::PathBuf, process::Command, thread};

/// Dropping it takes the node away, with all that still runs there.
pub struct Second {
    node: Node,
}

impl Second {
    /// It has all images that the first node has. Other stories would not expect their Pods there: this one is to be told alone.
    pub fn join(place: &Place) -> Second {
        let node = place.node.others().next().expect("a cluster may have a second node");
        let second = Second { node };
        assert!(second.mesh_cluster("up", &place.node.tools()), "the second node is not up");
        second
    }

    /// As Kubernetes knows it.
    pub fn name(&self) -> String {
        self.node.host()
    }

    /// How many of these Pods run on it.
    pub fn holds(&self, pods: &[Pod]) -> usize {
        let name = self.name();
        let here = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&name);
        pods.iter().filter(here).count()
    }

    fn mesh_cluster(&self, task: &str, tools: &[PathBuf]) -> bool {
        let mut command = Command::new(binaries::path("mesh-cluster"));
        command.args(["--name", &self.node.name(), task]);
        for dir in tools {
            command.arg("--tools").arg(dir);
        }
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let is_gone = self.mesh_cluster("down", &[]);
        // A story that fails anyway is to say why by itself.
        assert!(is_gone || thread::panicking(), "the second node is not gone");
    }
}
