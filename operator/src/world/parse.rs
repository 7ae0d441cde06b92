//! YAML text into objects: several documents to a file, `List`s, the kinds that we know. A pure function; says file, document, line
//! and reason of what it cannot read.

use super::unknown::{self, Field, Step};
use k8s_openapi::api::{
    core::v1::{self, Namespace, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use mesh_policy::{
    Diagnostic, Origin, Pod, Severity,
    authorization::{self, AuthorizationPolicy},
    gateway::{GRPCRoute, HTTPRoute},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};

/// An object of a kind that matters to the mesh.
#[expect(clippy::large_enum_variant, reason = "there are as many as manifests, and they are moved once")]
#[derive(Clone, Debug)]
pub enum Object {
    Namespace(Namespace),
    ServiceAccount(ServiceAccount),
    Service(Service),
    EndpointSlice(EndpointSlice),
    Pod(Pod),
    HttpRoute(HTTPRoute),
    GrpcRoute(GRPCRoute),
    AuthorizationPolicy(AuthorizationPolicy),
}

/// An object with its name for people (`HTTPRoute bookinfo/reviews`) and its place.
#[derive(Clone, Debug)]
pub struct Read {
    pub object: Object,
    pub name: String,
    pub origin: Origin,
    /// What is to be said of it although it stands: fields that nobody reads, which a cluster's API server drops.
    pub unknown: Vec<Diagnostic>,
}

/// The objects of a file, or everything that is wrong with it. Kinds that we do not know are left out: a folder may hold more than
/// the mesh's business.
pub fn file(path: &str, text: &str) -> Result<Vec<Read>, Vec<Diagnostic>> {
    let mut objects = vec![];
    let mut wrong = vec![];
    for document in documents(text) {
        let origin =
            Origin { path: path.to_owned(), document: document.number, line: document.object_line() };
        match read_document(&document) {
            Ok(found) => objects.extend(found.into_iter().map(|found| {
                Read {
                    unknown: found
                        .unknown
                        .iter()
                        .map(|unread| warning(&origin, &document, &found.name, unread))
                        .collect(),
                    object: found.object,
                    name: found.name,
                    origin: origin.clone(),
                }
            })),
            Err(failure) => wrong.push(Diagnostic {
                severity: Severity::Error,
                path: path.to_owned(),
                document: document.number,
                line: failure.line.map_or(origin.line, |line| document.line + line - 1),
                object: failure.object,
                message: failure.message,
                remedy: "the file's last good version stays in force".into(),
            }),
        }
    }
    if wrong.is_empty() { Ok(objects) } else { Err(wrong) }
}

/// The policies of a file that cannot be read, and has never been: each lets in nobody where it is aimed.
pub fn closed_policies(path: &str, text: &str) -> Vec<Read> {
    let mut closed = vec![];
    for document in documents(text) {
        let origin =
            Origin { path: path.to_owned(), document: document.number, line: document.object_line() };
        let Ok(value) = from_yaml::<serde_json::Value>(document.text, "") else { continue };
        let items = value["items"].as_array().map_or(std::slice::from_ref(&value), Vec::as_slice);
        for item in items {
            let Ok(head) = Head::deserialize(item) else { continue };
            let kind = Kind::of(&head.api_version, &head.kind);
            if !matches!(kind, Some(Kind::AuthorizationPolicy)) || head.metadata.name.is_empty() {
                continue;
            }
            let mut policy =
                AuthorizationPolicy::new(&head.metadata.name, authorization::closed(&item["spec"]));
            policy.metadata.namespace = head.metadata.namespace.clone();
            closed.push(Read {
                object: in_namespace(Object::AuthorizationPolicy(policy)),
                name: name(&head),
                origin: origin.clone(),
                unknown: vec![Diagnostic {
                    severity: Severity::Error,
                    path: path.to_owned(),
                    document: origin.document,
                    line: origin.line,
                    object: name(&head),
                    message: "its file cannot be read: it lets in nobody".into(),
                    remedy: "correct the file".into(),
                }],
            });
        }
    }
    closed
}

fn warning(origin: &Origin, document: &Document<'_>, object: &str, unread: &Unread) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        path: origin.path.clone(),
        document: origin.document,
        line: unread.line.map_or(origin.line, |line| document.line + line - 1),
        object: object.to_owned(),
        message: format!("{} is no field that the mesh reads, and is ignored", unread.field),
        remedy: match unread.field.meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "correct its name, or remove it".into(),
        },
    }
}

struct Document<'a> {
    /// From 1.
    number: u32,
    /// Line of the file at which `text` starts, from 1.
    line: u32,
    text: &'a str,
}

impl Document<'_> {
    /// Where the object itself starts, below comments.
    fn object_line(&self) -> u32 {
        let skipped =
            self.text.lines().take_while(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        self.line + u32::try_from(skipped.count()).unwrap_or(0)
    }
}

/// Splits at lines that start with `---`, which YAML allows nowhere inside a document. Documents of comments only do not count.
fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = vec![];
    let mut start = 0;
    let mut start_line = 1;
    let mut add = |from: usize, to: usize, line: u32| {
        let text = &text[from..to];
        if text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with(['#', '%'])) {
            let number = u32::try_from(documents.len()).unwrap_or(0) + 1;
            documents.push(Document { number, line, text });
        }
    };
    let mut at = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let next = at + line.len();
        if line.trim_end() == "---" || line.starts_with("--- ") {
            add(start, at, start_line);
            start = at + 3;
            start_line = number;
        }
        at = next;
    }
    add(start, text.len(), start_line);
    documents
}

struct Failure {
    /// Within the document, from 1.
    line: Option<u32>,
    object: String,
    message: String,
}

struct Found {
    name: String,
    object: Object,
    unknown: Vec<Unread>,
}

struct Unread {
    field: Field,
    /// Within the document, from 1.
    line: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: HeadMetadata,
}

#[derive(Default, Deserialize)]
struct HeadMetadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<serde_json::Value>,
}

fn read_document(document: &Document<'_>) -> Result<Vec<Found>, Failure> {
    let head: Head = from_yaml(document.text, "")?;
    let at = |prefix: &[Step], field: Field| Unread {
        line: unknown::line(document.text, &[prefix, &field.steps].concat()),
        field,
    };
    if head.kind == "List" || (head.kind.ends_with("List") && head.metadata.name.is_empty()) {
        let list: List = from_yaml(document.text, "List")?;
        let mut objects = vec![];
        for (number, item) in list.items.into_iter().enumerate() {
            let of_item = |error: serde_json::Error| Failure {
                line: None,
                object: format!("List item {}", number + 1),
                message: error.to_string(),
            };
            let head = Head::deserialize(&item).map_err(of_item)?;
            let place = [Step::Key("items".into()), Step::Item(number)];
            objects.extend(typed(
                &head,
                |kind, unknown| kind.read(&item, unknown).map_err(of_item),
                |field| at(&place, field),
            )?);
        }
        return Ok(objects);
    }
    let found = typed(
        &head,
        |kind, unknown| {
            let read =
                serde_saphyr::with_deserializer_from_str(document.text, |yaml| kind.read(yaml, unknown));
            read.map_err(|error| said(&error, document.text, &name(&head)))
        },
        |field| at(&[], field),
    )?;
    Ok(found.into_iter().collect())
}

fn name(head: &Head) -> String {
    match (head.kind.as_str(), &head.metadata.namespace) {
        ("Namespace", _) => format!("Namespace {}", head.metadata.name),
        (kind, namespace) => {
            format!("{kind} {}/{}", namespace.as_deref().unwrap_or("default"), head.metadata.name)
        }
    }
}

/// Reads the object if it is of a kind that we know; `at` finds the fields that its kind does not have.
fn typed(
    head: &Head,
    read: impl FnOnce(Kind, &mut Vec<Field>) -> Result<Object, Failure>,
    at: impl Fn(Field) -> Unread,
) -> Result<Option<Found>, Failure> {
    let failure = |message: &str| Failure { line: None, object: name(head), message: message.into() };
    if head.kind.is_empty() || head.api_version.is_empty() {
        return Err(Failure {
            object: String::new(),
            ..failure("not a Kubernetes object: it has no apiVersion and kind")
        });
    }
    let Some(kind) = Kind::of(&head.api_version, &head.kind) else { return Ok(None) };
    if head.metadata.name.is_empty() {
        return Err(Failure { object: head.kind.clone(), ..failure("metadata.name is missing") });
    }
    let mut unknown = vec![];
    let object = in_namespace(read(kind, &mut unknown)?);
    let unknown: Vec<Unread> = unknown.into_iter().map(at).collect();
    // An AuthorizationPolicy whose selector lost a word would select other Pods than was meant: security fails closed.
    let lost = unknown.iter().find(|unread| unread.field.steps.first() == Some(&Step::Key("spec".into())));
    if let (Object::AuthorizationPolicy(_), Some(lost)) = (&object, lost) {
        let meant = lost.field.meant.map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
        return Err(Failure { line: lost.line, ..failure(&format!("unknown field {}{meant}", lost.field)) });
    }
    Ok(Some(Found { name: name(head), object, unknown }))
}

#[derive(Clone, Copy)]
enum Kind {
    Namespace,
    ServiceAccount,
    Service,
    EndpointSlice,
    Pod,
    HttpRoute,
    GrpcRoute,
    AuthorizationPolicy,
}

impl Kind {
    fn of(api_version: &str, kind: &str) -> Option<Kind> {
        Some(match (api_version, kind) {
            ("v1", "Namespace") => Kind::Namespace,
            ("v1", "ServiceAccount") => Kind::ServiceAccount,
            ("v1", "Service") => Kind::Service,
            ("discovery.k8s.io/v1", "EndpointSlice") => Kind::EndpointSlice,
            ("v1", "Pod") => Kind::Pod,
            ("gateway.networking.k8s.io/v1" | "gateway.networking.k8s.io/v1beta1", "HTTPRoute") => {
                Kind::HttpRoute
            }
            ("gateway.networking.k8s.io/v1", "GRPCRoute") => Kind::GrpcRoute,
            ("mesh.dev/v1alpha1", "AuthorizationPolicy") => Kind::AuthorizationPolicy,
            _ => return None,
        })
    }

    /// From YAML and from JSON alike, by one reader of each kind: those of Kubernetes are so large that another would be a megabyte.
    fn read<'de, D: Deserializer<'de>>(self, from: D, unknown: &mut Vec<Field>) -> Result<Object, D::Error> {
        let mut from = <dyn erased_serde::Deserializer<'_>>::erase(from);
        self.read_erased(&mut from, unknown).map_err(D::Error::custom)
    }

    fn read_erased(
        self,
        from: &mut dyn erased_serde::Deserializer<'_>,
        unknown: &mut Vec<Field>,
    ) -> Result<Object, erased_serde::Error> {
        use unknown::read;
        Ok(match self {
            Kind::Namespace => Object::Namespace(read(from, unknown)?),
            Kind::ServiceAccount => Object::ServiceAccount(read(from, unknown)?),
            Kind::Service => Object::Service(read(from, unknown)?),
            Kind::EndpointSlice => Object::EndpointSlice(read(from, unknown)?),
            Kind::Pod => Object::Pod(read::<v1::Pod, _>(from, unknown)?.into()),
            Kind::HttpRoute => Object::HttpRoute(read(from, unknown)?),
            Kind::GrpcRoute => Object::GrpcRoute(read(from, unknown)?),
            Kind::AuthorizationPolicy => Object::AuthorizationPolicy(read(from, unknown)?),
        })
    }
}

/// An object of a namespaced kind that names no namespace is in `default`, as `kubectl apply` puts it.
fn in_namespace(mut object: Object) -> Object {
    let metadata = match &mut object {
        Object::Namespace(_) => return object,
        Object::ServiceAccount(own) => &mut own.metadata,
        Object::Service(own) => &mut own.metadata,
        Object::EndpointSlice(own) => &mut own.metadata,
        Object::Pod(own) => &mut own.metadata,
        Object::HttpRoute(own) => &mut own.metadata,
        Object::GrpcRoute(own) => &mut own.metadata,
        Object::AuthorizationPolicy(own) => &mut own.metadata,
    };
    metadata.namespace.get_or_insert_with(|| "default".into());
    object
}

fn from_yaml<T: DeserializeOwned>(text: &str, object: &str) -> Result<T, Failure> {
    serde_saphyr::from_str(text).map_err(|error| said(&error, text, object))
}

/// What the library says, with the line it speaks of.
fn said(error: &serde_saphyr::Error, text: &str, object: &str) -> Failure {
    let line = error.location().and_then(|location| u32::try_from(location.line()).ok());
    // The library's message starts with a place that counts from this document's start, and goes on with a picture of it.
    let full = error.to_string();
    let first = full.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let message = match first.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, message)) => message,
        None => first,
    };
    // What went wrong within an object has its place behind it, and those of all that it stands in.
    let (message, line) = match message.split_once(" at line ") {
        Some((message, places)) => {
            (message, places.split(',').next().and_then(|line| line.parse().ok()).or(line))
        }
        None => (message, line),
    };
    let message = match message {
        "invalid i32" | "invalid i64" | "invalid u16" | "invalid u32" | "invalid u64" => {
            "expected a whole number"
        }
        other => other,
    };
    let at = line
        .and_then(|line| text.lines().nth((line as usize).saturating_sub(1)))
        .map(str::trim)
        .unwrap_or_default();
    let at: String = at.chars().take(80).collect();
    let message = if at.is_empty() { message.to_owned() } else { format!("{message}, at `{at}`") };
    Failure { line, object: object.to_owned(), message }
}

#[cfg(test)]
mod tests;
