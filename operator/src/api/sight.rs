//! Which namespaces somebody may see, and what that leaves of the mesh. A view is made from what is left, so that none can show more:
//! of other namespaces one sees what one's own proxies tell of them, which is whom they talk to.

use super::refusal::{Refusal, quoted};
use crate::telemetry::Trace;
use mesh_policy::Diagnostic;
use std::{collections::BTreeSet, sync::Arc};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    All,
    Only(Arc<BTreeSet<String>>),
}

impl Sight {
    /// Nothing that has no namespace is seen by those who may see only some.
    pub fn sees(&self, namespace: &str) -> bool {
        match self {
            Sight::All => true,
            Sight::Only(namespaces) => namespaces.contains(namespace),
        }
    }

    /// What of these namespaces is seen; without any, all that is.
    pub fn narrowed(&self, to: &[String]) -> Sight {
        if to.is_empty() {
            return self.clone();
        }
        Sight::Only(Arc::new(to.iter().filter(|namespace| self.sees(namespace)).cloned().collect()))
    }

    /// The same words whether the namespace exists or not.
    pub fn check(&self, namespace: &str) -> Result<(), Refusal> {
        match self.sees(namespace) {
            true => Ok(()),
            false => Err(Refusal::forbidden(format!(
                "namespace {}: you may see only namespaces whose Pods you may get",
                quoted(namespace)
            ))),
        }
    }

    /// Of an object, as `Kind namespace/name` says it.
    pub fn sees_object(&self, object: &str) -> bool {
        let namespace = object.split_once(' ').and_then(|(_, name)| Some(name.split_once('/')?.0));
        *self == Sight::All || namespace.is_some_and(|namespace| self.sees(namespace))
    }

    pub fn diagnostics(&self, all: &[Diagnostic]) -> Vec<Diagnostic> {
        all.iter().filter(|diagnostic| self.sees_object(&diagnostic.object)).cloned().collect()
    }

    /// The spans of a trace that are seen; `None` where there are none.
    pub fn trace(&self, trace: Arc<Trace>) -> Option<Arc<Trace>> {
        if *self == Sight::All {
            return Some(trace);
        }
        let spans: Vec<_> =
            trace.spans.iter().filter(|span| self.sees(&span.origin.namespace)).cloned().collect();
        (!spans.is_empty()).then(|| Arc::new(Trace { id: trace.id, arrived_ms: trace.arrived_ms, spans }))
    }
}
