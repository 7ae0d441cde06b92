//! Tree and data to text.

use super::{
    Error, Templates, function,
    parse::{Command, Loop, Node, Operand, Pipeline},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a name in a template can stand for.
#[derive(Clone)]
struct Scope<'a> {
    templates: &'a Templates,
    file: &'a str,
    root: &'a Value,
    dot: Value,
    variables: BTreeMap<String, Value>,
}

/// The text of a template whose `.` and `$` are these data.
pub fn body(templates: &Templates, file: &str, nodes: &[Node], data: &Value) -> Result<String, Error> {
    let scope = Scope { templates, file, root: data, dot: data.clone(), variables: BTreeMap::new() };
    let mut text = String::new();
    scope.nodes(nodes, &mut text)?;
    Ok(text)
}

impl Scope<'_> {
    fn nodes(&self, nodes: &[Node], text: &mut String) -> Result<(), Error> {
        for node in nodes {
            match node {
                Node::Text(literal) => text.push_str(literal),
                Node::Output(pipeline) => {
                    let value = self.pipeline(pipeline)?;
                    text.push_str(&self.at(pipeline, function::print(&value))?);
                }
                Node::If(branches, otherwise) => self.branches(branches, otherwise, text)?,
                Node::With(subject, body, otherwise) => {
                    let value = self.pipeline(subject)?;
                    match function::is_true(&value) {
                        true => self.with_dot(value).nodes(body, text)?,
                        false => self.nodes(otherwise, text)?,
                    }
                }
                Node::Range(range) => self.range(range, text)?,
            }
        }
        Ok(())
    }

    fn branches(
        &self,
        branches: &[(Pipeline, Vec<Node>)],
        otherwise: &[Node],
        text: &mut String,
    ) -> Result<(), Error> {
        for (condition, body) in branches {
            if function::is_true(&self.pipeline(condition)?) {
                return self.nodes(body, text);
            }
        }
        self.nodes(otherwise, text)
    }

    fn range(&self, range: &Loop, text: &mut String) -> Result<(), Error> {
        let items: Vec<(Value, Value)> = match self.pipeline(&range.over)? {
            Value::Array(items) => items.into_iter().enumerate().map(|(i, item)| (i.into(), item)).collect(),
            Value::Object(map) => map.into_iter().map(|(key, value)| (key.into(), value)).collect(),
            Value::Null => vec![],
            other => return self.at(&range.over, Err(format!("range: {other} is neither list nor map"))),
        };
        if items.is_empty() {
            return self.nodes(&range.otherwise, text);
        }
        for (key, value) in items {
            let mut scope = self.with_dot(value.clone());
            if let Some((key_name, value_name)) = &range.names {
                scope.variables.insert(key_name.clone(), key);
                scope.variables.insert(value_name.clone(), value);
            }
            scope.nodes(&range.body, text)?;
        }
        Ok(())
    }

    fn with_dot(&self, dot: Value) -> Self {
        Scope { dot, ..self.clone() }
    }

    fn at<T>(&self, pipeline: &Pipeline, result: Result<T, String>) -> Result<T, Error> {
        result.map_err(|message| Error { file: self.file.to_owned(), line: pipeline.line, message })
    }

    fn pipeline(&self, pipeline: &Pipeline) -> Result<Value, Error> {
        let mut piped: Option<Value> = None;
        for command in &pipeline.commands {
            piped = Some(match command {
                Command::Operand(operand) => self.operand(pipeline, operand)?,
                Command::Call(name, operands) => {
                    let mut arguments = vec![];
                    for operand in operands {
                        arguments.push(self.operand(pipeline, operand)?);
                    }
                    arguments.extend(piped);
                    if name == "include" {
                        self.include(pipeline, &arguments)?
                    } else {
                        self.at(pipeline, function::call(name, &arguments))?
                    }
                }
            });
        }
        Ok(piped.unwrap_or_default())
    }

    fn include(&self, pipeline: &Pipeline, arguments: &[Value]) -> Result<Value, Error> {
        let [Value::String(name), data] = arguments else {
            return self.at(pipeline, Err("include: want a name and data".into()));
        };
        let Some(definition) = self.templates.defined.get(name) else {
            return self.at(pipeline, Err(format!("include: nothing defines {name:?}")));
        };
        body(self.templates, &definition.file, &definition.body, data).map(Value::String)
    }

    fn operand(&self, pipeline: &Pipeline, operand: &Operand) -> Result<Value, Error> {
        let (start, path, shown) = match operand {
            Operand::Literal(value) => return Ok(value.clone()),
            Operand::Group(inner) => return self.pipeline(inner),
            Operand::Dot(path) => (&self.dot, path, ""),
            Operand::Root(path) => (self.root, path, "$"),
            Operand::Variable(name, path) => match self.variables.get(name) {
                Some(value) => (value, path, "$variable"),
                None => return self.at(pipeline, Err(format!("${name} is not set"))),
            },
        };
        let mut value = start;
        for field in path {
            let Some(inner) = value.get(field) else {
                return self.at(pipeline, Err(format!("{shown}.{}: there is no {field:?}", path.join("."))));
            };
            value = inner;
        }
        Ok(value.clone())
    }
}
