//! What is wrong with the configuration, where, and what to do about it.

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
