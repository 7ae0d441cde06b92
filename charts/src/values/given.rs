//! What a user gives: files and `--set`, laid over the defaults as Helm does it, then checked.

use super::Values;
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

/// Given values, not yet checked. Later ones win.
#[derive(Clone, Debug, Default)]
pub struct Given(Map<String, Value>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("{0:?}: want path=value, such as proxy.cores=2")]
    Assignment(String),
    #[error("{0:?}: {1:?} is a value already, not a group of values")]
    Path(String, String),
    #[error("values: {0}")]
    Yaml(String),
    #[error("values: {path}: {reason}")]
    Value { path: String, reason: String },
}

impl Given {
    /// The text of a values file.
    pub fn file(&mut self, yaml: &str) -> Result<(), Invalid> {
        let file: Option<Map<String, Value>> =
            serde_saphyr::from_str(yaml).map_err(|e| Invalid::Yaml(e.to_string()))?;
        lay_over(&mut self.0, file.unwrap_or_default());
        Ok(())
    }

    /// The text of a values file that a mesh was installed with, perhaps by a later version: what this one does not know is left out.
    /// Returns the paths of that.
    pub fn kept(&mut self, yaml: &str) -> Result<Vec<String>, Invalid> {
        let mut kept = Given::default();
        kept.file(yaml)?;
        let mut unknown = vec![];
        // Of this copy goes whatever is wrong, so that the next is found; `check` says what is wrong with what is known.
        let mut rest = kept.0.clone();
        while let Err(e) = serde_path_to_error::deserialize::<_, Values>(Value::Object(rest.clone())) {
            let path = keys(e.path());
            if e.inner().to_string().starts_with("unknown field") {
                remove(&mut kept.0, &path);
                unknown.push(path.join("."));
            }
            if remove(&mut rest, &path).is_none() {
                break;
            }
        }
        lay_over(&mut self.0, kept.0);
        Ok(unknown)
    }

    /// `a.b=1,c={x,y}`: as Helm's `--set`, without indexes into lists.
    pub fn set(&mut self, assignments: &str) -> Result<(), Invalid> {
        for assignment in split(assignments, ',') {
            let wrong = || Invalid::Assignment(assignment.clone());
            let (path, value) = assignment.split_once('=').ok_or_else(wrong)?;
            let mut path: Vec<String> = split(path, '.').iter().map(|part| unescape(part)).collect();
            let last = path.pop().filter(|last| !last.is_empty()).ok_or_else(wrong)?;
            let mut map = &mut self.0;
            for part in path {
                let inner = map.entry(part.clone()).or_insert_with(|| Value::Object(Map::new()));
                map = match inner {
                    Value::Object(map) => map,
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                        return Err(Invalid::Path(assignment, part));
                    }
                };
            }
            map.insert(last, list_or_scalar(value));
        }
        Ok(())
    }

    /// The defaults, with all of this laid over them.
    pub fn check(self) -> Result<Values, Invalid> {
        let defaults = serde_json::to_value(Values::default()).expect("defaults are plain data");
        let Value::Object(mut all) = defaults else { unreachable!("Values is a struct") };
        lay_over(&mut all, self.0);
        let values: Values = serde_path_to_error::deserialize(Value::Object(all))
            .map_err(|e| Invalid::Value { path: e.path().to_string(), reason: e.into_inner().to_string() })?;
        values.make_sense()?;
        Ok(values)
    }
}

/// Maps are merged, everything else is replaced; null takes a key away.
fn lay_over(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (_, Value::Null) => {
                base.remove(&key);
            }
            (Some(Value::Object(base)), Value::Object(over)) => lay_over(base, over),
            // `--set` cannot tell a text of digits from a number.
            (Some(Value::String(base)), Value::Number(over)) => *base = over.to_string(),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Down to where lists begin.
fn keys(path: &Path) -> Vec<String> {
    let key = |segment: &Segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().map_while(key).collect()
}

fn remove(map: &mut Map<String, Value>, path: &[String]) -> Option<Value> {
    match path {
        [] => None,
        [last] => map.remove(last),
        [first, rest @ ..] => remove(map.get_mut(first)?.as_object_mut()?, rest),
    }
}

/// At each `separator` that is neither escaped nor inside braces.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut escaped, mut depth) = (false, 0_usize);
    for c in text.chars() {
        match c {
            _ if escaped => {}
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if c == separator && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

fn list_or_scalar(text: &str) -> Value {
    match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        Some("") => Value::Array(vec![]),
        Some(items) => split(items, ',').iter().map(|item| scalar(item)).collect(),
        None => scalar(text),
    }
}

fn scalar(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        "null" => Value::Null,
        _ => match text.parse::<i64>() {
            Ok(number) if text == number.to_string() => number.into(),
            Ok(_) | Err(_) => unescape(text).into(),
        },
    }
}
