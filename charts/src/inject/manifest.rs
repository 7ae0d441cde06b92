//! Finds the Pods in YAML files, as they are or as templates of what makes them, for `mesh inject` and `mesh uninject`. Documents
//! in which nothing changes keep their text, comments included.

use super::{Cluster, Injection, Outcome, Patch, Skip, inject, is_left_out, uninject};
use k8s_openapi::api::core::v1::Pod;
use mesh_api::names;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("document {document}: {reason}")]
    Yaml { document: usize, reason: String },
    #[error("document {document}: {subject}: {reason}")]
    Pod { document: usize, subject: String, reason: String },
}

/// What became of one object that holds a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `Deployment shop/web`
    pub subject: String,
    pub change: Change,
    /// What the proxy leaves alone, said here because nothing else would say it.
    pub note: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Injected(Outcome),
    Uninjected,
    Nothing,
    /// It holds a Pod template, and is no workload of Kubernetes' own.
    Unknown,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = &self.subject;
        match &self.change {
            Change::Injected(Outcome::Injected) => write!(f, "{subject}: injected")?,
            Change::Injected(Outcome::Already) => write!(f, "{subject}: has a proxy already")?,
            Change::Injected(Outcome::Skipped(skip)) => write!(f, "{subject}: skipped: {skip}")?,
            Change::Uninjected => write!(f, "{subject}: proxy taken out")?,
            Change::Nothing => write!(f, "{subject}: has no proxy")?,
            Change::Unknown => write!(
                f,
                "{subject}: left as it is, being no workload of Kubernetes' own: on the cluster, {} on its Pod template works",
                names::INJECT
            )?,
        }
        self.note.map_or(Ok(()), |note| write!(f, " ({note})"))
    }
}

/// The same documents with a proxy in every Pod that can have one.
pub fn inject_all(
    text: &str,
    injection: &Injection,
    cluster: Cluster,
) -> Result<(String, Vec<Entry>), Error> {
    let asked = BTreeMap::from([(names::INJECT.to_owned(), "enabled".to_owned())]);
    rewrite(text, &|namespace, pod| {
        if is_left_out(namespace, &injection.control_namespace) {
            let skipped = Outcome::Skipped(Skip::LeftOut(namespace.to_owned()));
            return (Change::Injected(skipped), Patch::default());
        }
        let decision = inject(pod, &asked, injection, cluster);
        (Change::Injected(decision.outcome), decision.patch)
    })
}

/// The same documents without our proxies.
pub fn uninject_all(text: &str) -> Result<(String, Vec<Entry>), Error> {
    rewrite(text, &|_, pod| {
        let patch = uninject(pod);
        (if patch.0.is_empty() { Change::Nothing } else { Change::Uninjected }, patch)
    })
}

/// By an object's namespace, empty where it names none, and its Pod.
type Decide<'f> = dyn Fn(&str, &Pod) -> (Change, Patch) + 'f;

fn rewrite(text: &str, decide: &Decide) -> Result<(String, Vec<Entry>), Error> {
    let mut entries = vec![];
    let mut documents = vec![];
    for (index, document) in split(text).into_iter().enumerate() {
        let broken = |reason: String| Error::Yaml { document: index + 1, reason };
        // As kubectl reads it: file modes are written so (`defaultMode: 0400`).
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let before: Value =
            serde_saphyr::from_str_with_options(&document, options).map_err(|e| broken(e.to_string()))?;
        let mut after = before.clone();
        object(&mut after, decide, &mut entries).map_err(|(subject, reason)| Error::Pod {
            document: index + 1,
            subject,
            reason,
        })?;
        documents.push(if after == before {
            document
        } else {
            serde_saphyr::to_string(&after).map_err(|e| broken(e.to_string()))?
        });
    }
    Ok((documents.join("---\n"), entries))
}

/// Documents that hold anything, each with its text and a line end.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let says_something = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    documents.retain(|document| document.lines().any(says_something));
    documents
}

fn object(object: &mut Value, decide: &Decide, entries: &mut Vec<Entry>) -> Result<(), (String, String)> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if kind == "List" {
        for item in object["items"].as_array_mut().into_iter().flatten() {
            self::object(item, decide, entries)?;
        }
        return Ok(());
    }
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    let namespace = text("namespace").to_owned();
    let subject = match namespace.as_str() {
        "" => format!("{kind} {}", text("name")),
        namespace => format!("{kind} {namespace}/{}", text("name")),
    };
    let Some(path) = template_path(&kind) else {
        if object.pointer("/spec/template/spec/containers").is_some() {
            entries.push(Entry { subject, change: Change::Unknown, note: None });
        }
        return Ok(());
    };
    let Some(template) = object.pointer_mut(path).filter(|template| template.is_object()) else {
        return Err((subject, "has no Pod template".into()));
    };
    let pod = json!({ "metadata": template.get("metadata").unwrap_or(&json!({})), "spec": template["spec"] });
    let pod: Pod = serde_json::from_value(pod).map_err(|e| (subject.clone(), e.to_string()))?;
    let (change, patch) = decide(&namespace, &pod);
    if !patch.0.is_empty() {
        if template["metadata"].is_null() {
            template["metadata"] = json!({});
        }
        json_patch::patch(template, &patch).map_err(|e| (subject.clone(), e.to_string()))?;
    }
    entries.push(Entry { subject, change, note: note(&pod) });
    Ok(())
}

/// Where in an object of this kind the Pod is; none for kinds that have none.
fn template_path(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => {
            Some("/spec/template")
        }
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

fn note(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    let mut ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let udp = ports.any(|port| port.protocol.as_deref() == Some("UDP"));
    udp.then_some("its UDP ports bypass the proxy")
}
