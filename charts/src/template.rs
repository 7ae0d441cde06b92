//! A small part of Go's templates: as much as our chart is written in, so that `mesh install` and `helm template` read the same
//! files. What is not understood is an error that names file and line, never a guess.
//!
//! Actions: output, `if`/`else if`/`else`, `with`, `range` (of a list, or `$key, $value` of a map), `define`, comments, and the
//! trimming of blanks by `{{-` and `-}}`. Functions stand in `function`. Stricter than Go in one thing: a field that is not
//! there is an error.

mod evaluate;
mod function;
mod parse;

use serde_json::Value;
use std::collections::BTreeMap;

/// Where in which template something is wrong, and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct Error {
    pub file: String,
    pub line: usize,
    pub message: String,
}

/// Parsed templates, and what they `define`.
#[derive(Debug, Default)]
pub struct Templates {
    files: Vec<parse::File>,
    defined: BTreeMap<String, Definition>,
}

#[derive(Debug)]
struct Definition {
    file: String,
    body: Vec<parse::Node>,
}

impl Templates {
    /// `(name, text)` of each file.
    pub fn parse(files: &[(&str, &str)]) -> Result<Templates, Error> {
        let mut templates = Templates::default();
        for (name, text) in files {
            let mut file = parse::file(name, text)?;
            for (defined, body) in file.defined.drain(..) {
                templates.defined.insert(defined, Definition { file: (*name).to_owned(), body });
            }
            templates.files.push(file);
        }
        Ok(templates)
    }

    /// What every file says about these data: `(name, text)` in the order in which they were given.
    pub fn render(&self, data: &Value) -> Result<Vec<(String, String)>, Error> {
        let mut rendered = vec![];
        for file in &self.files {
            let text = evaluate::body(self, &file.name, &file.body, data)?;
            rendered.push((file.name.clone(), text));
        }
        Ok(rendered)
    }
}

#[cfg(test)]
mod tests;
