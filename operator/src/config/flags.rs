//! What is wrong with the flags, all at once and in the words of `environment`. Which of them go together is for the parser to say.

use super::{Config, environment::wrong_value};
use crate::spelling::alike;
use clap::{Arg, CommandFactory};

/// One sentence for each flag that has a wrong value or is none of ours. `arguments` come without the program's name.
pub fn complaints(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let command = Config::command();
    let mut arguments = arguments.into_iter().peekable();
    let mut wrong = vec![];
    while let Some(argument) = arguments.next() {
        let Some(flag) = argument.strip_prefix("--") else {
            wrong.push(format!("{argument:?} is not a flag: `mesh-operator --help` lists them"));
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let Some(arg) = command.get_arguments().find(|arg| is_called(arg, name)) else {
            wrong.push(match alike(name, command.get_arguments().filter_map(Arg::get_long)) {
                Some(meant) => format!("--{name} is not a flag: did you mean --{meant}?"),
                None => format!("--{name} is not a flag: `mesh-operator --help` lists them"),
            });
            // Its value, if it was to have one.
            let _ = arguments.next_if(|next| value.is_none() && !next.starts_with("--"));
            continue;
        };
        if !arg.get_action().takes_values() {
            continue;
        }
        // That a value is missing is the parser's to say.
        let Some(value) = value.or_else(|| arguments.next()) else { continue };
        if let Some(why) = wrong_value(arg, &value) {
            wrong.push(format!("--{name}={value:?}: {why}"));
        }
    }
    wrong
}

fn is_called(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::complaints;

    fn check(line: &str, expected: &[&str]) {
        assert_eq!(complaints(line.split(' ').map(str::to_owned)), expected, "{line}");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        check(
            "--manifests m --grpc-adr 0.0.0.0:8086 --leaf-lifetime=1s frobnicate --http-addr nowhere --frobnicate --cluster",
            &[
                "--grpc-adr is not a flag: did you mean --grpc-addr?",
                "--leaf-lifetime=\"1s\": want DURATION (want at least 10s)",
                "\"frobnicate\" is not a flag: `mesh-operator --help` lists them",
                "--http-addr=\"nowhere\": want IP:PORT (invalid socket address syntax)",
                "--frobnicate is not a flag: `mesh-operator --help` lists them",
            ],
        );
    }

    #[test]
    fn what_is_right_or_lacks_another_is_not_told() {
        check("--manifests m --state-dir=s --control-namespace mesh --no-restarts", &[]);
        check("--manifests m", &[]);
        check("--cluster --grpc-addr", &[]);
    }
}
