//! What is wrong with the configuration, where, and what to do about it.

use crate::{World, routes};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Works, but probably not as meant.
    Warning,
    /// Does not take effect.
    Error,
}

/// One finding. Empty texts and zero numbers mean "not known" or "does not apply".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The file, relative to the manifests' folder.
    pub path: String,
    /// Which YAML document of the file, from 1.
    pub document: u32,
    /// Line in the file, from 1.
    pub line: u32,
    /// `HTTPRoute bookinfo/reviews`.
    pub object: String,
    /// What is wrong: lower-case, no full stop.
    pub message: String,
    pub remedy: String,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}", self.path)?;
            if self.line > 0 {
                write!(f, ":{}", self.line)?;
            }
            if self.document > 0 {
                write!(f, " (document {})", self.document)?;
            }
            write!(f, ": ")?;
        }
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        write!(f, "{}", self.message)?;
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}

/// All findings about a world, the gravest first, each with the place where its object stands.
pub(crate) fn of_world<'a>(
    world: &World,
    problems: impl Iterator<Item = &'a (String, String)>,
    routes: &[routes::Checked],
) -> Vec<Diagnostic> {
    let mut diagnostics = world.unreadable.to_vec();
    let place = |severity: Severity, object: String, message: String| {
        let origin = world.origins.get(&object);
        Diagnostic {
            severity,
            path: origin.map(|origin| origin.path.clone()).unwrap_or_default(),
            document: origin.map_or(0, |origin| origin.document),
            line: origin.map_or(0, |origin| origin.line),
            object,
            message,
            remedy: String::new(),
        }
    };
    diagnostics
        .extend(problems.map(|(object, message)| place(Severity::Warning, object.clone(), message.clone())));
    for route in routes {
        for (error, message) in route.findings() {
            let severity = if error { Severity::Error } else { Severity::Warning };
            diagnostics.push(place(severity, route.object(), message));
        }
    }
    diagnostics.sort_by(|a, b| (b.severity, a).cmp(&(a.severity, b)));
    diagnostics.dedup();
    diagnostics
}
