//! What is wrong with the environment, all at once: a Pod's environment has nobody beside it who could try again.

use super::{Config, ENVIRONMENT};
use crate::spelling::alike;
use clap::{Arg, Command, CommandFactory, error::ErrorKind};
use mesh_api::service_link::is_service_link;
use std::error::Error as _;

/// One sentence for each variable of ours that has a wrong value or is none of ours.
pub fn complaints(variables: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let command = Config::command();
    let mut ours: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(ENVIRONMENT)).collect();
    ours.sort();
    ours.iter().filter_map(|(name, value)| complaint(&command, name, value)).collect()
}

fn complaint(command: &Command, name: &str, value: &str) -> Option<String> {
    if let Some(arg) = command.get_arguments().find(|arg| variable(arg) == Some(name)) {
        return wrong_value(arg, value).map(|why| format!("{name}={value:?}: {why}"));
    }
    if is_service_link(name, value) {
        return None;
    }
    // Without what all begin with, which makes them all alike.
    let known =
        command.get_arguments().filter_map(variable).filter_map(|name| name.strip_prefix(ENVIRONMENT));
    Some(match alike(name.strip_prefix(ENVIRONMENT).unwrap_or(name), known) {
        Some(meant) => format!("{name} is not a setting: did you mean {ENVIRONMENT}{meant}?"),
        None => format!("{name} is not a setting: `mesh-operator --help` lists them"),
    })
}

pub fn variable(arg: &Arg) -> Option<&str> {
    arg.get_env().and_then(|name| name.to_str())
}

/// Asks the parser about this one argument.
pub(super) fn wrong_value(arg: &Arg, value: &str) -> Option<String> {
    if !arg.get_action().takes_values() {
        return (!["true", "false"].contains(&value)).then(|| "want true or false".into());
    }
    // Which arguments go together is another question, and the environment's variables are each asked for themselves.
    let alone = Config::command()
        .mut_args(|arg| arg.env(None::<&str>))
        .mut_group("source", |group| group.required(false));
    let flag = format!("--{}={value}", arg.get_long().unwrap_or_default());
    let error = alone.try_get_matches_from(["mesh-operator", &flag]).err()?;
    match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::InvalidUtf8 => {
            let form = arg.get_value_names().and_then(|names| names.first()).map_or("a value", |form| form);
            let why = error.source().map(|why| format!(" ({why})")).unwrap_or_default();
            Some(format!("want {form}{why}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::complaints;

    fn check(variables: &[(&str, &str)], expected: &[&str]) {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assert_eq!(complaints(owned), expected);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        check(
            &[
                ("MESH_OPERATOR_MANIFESTS", "m"),
                ("MESH_OPERATOR_LEAF_LIFETIME", "1s"),
                ("MESH_OPERATOR_GRPC_ADR", "0.0.0.0:8086"),
                ("MESH_OPERATOR_DEFAULT_POLICY", "mesh-only"),
                ("MESH_OPERATOR_CLUSTER", "maybe"),
                ("MESH_OPERATOR_HTTP_ADDR", "nowhere"),
                ("MESH_OPERATOR_FROBNICATE", "yes"),
                ("PATH", "/bin"),
            ],
            &[
                "MESH_OPERATOR_CLUSTER=\"maybe\": want true or false",
                "MESH_OPERATOR_FROBNICATE is not a setting: `mesh-operator --help` lists them",
                "MESH_OPERATOR_GRPC_ADR is not a setting: did you mean MESH_OPERATOR_GRPC_ADDR?",
                "MESH_OPERATOR_HTTP_ADDR=\"nowhere\": want IP:PORT (invalid socket address syntax)",
                "MESH_OPERATOR_LEAF_LIFETIME=\"1s\": want DURATION (want at least 10s)",
            ],
        );
    }

    #[test]
    fn what_kubernetes_says_of_our_service_is_no_setting() {
        check(
            &[
                ("MESH_OPERATOR_PORT", "tcp://10.96.0.7:8086"),
                ("MESH_OPERATOR_PORT_8086_TCP", "tcp://10.96.0.7:8086"),
                ("MESH_OPERATOR_PORT_8086_TCP_ADDR", "10.96.0.7"),
                ("MESH_OPERATOR_SERVICE_HOST", "10.96.0.7"),
                ("MESH_OPERATOR_SERVICE_PORT", "8086"),
                ("MESH_OPERATOR_SERVICE_PORT_GRPC", "8086"),
            ],
            &[],
        );
        check(
            &[("MESH_OPERATOR_GRPC_PORT", "8086")],
            &["MESH_OPERATOR_GRPC_PORT is not a setting: did you mean MESH_OPERATOR_GRPC_ADDR?"],
        );
    }
}
