//! What the mesh puts on a cluster: the Helm chart in `mesh/`, rendered without Helm (`chart`), and the sidecar that it puts into
//! Pods (`inject`), for the versions of Kubernetes that there are (`kubernetes`). Pure: text and objects in, text and patches out.

pub mod chart;
pub mod inject;
pub mod kubernetes;
mod syntax;
pub mod template;
pub mod values;
