//! All that is wrong with a command line. The parser stops at the first mistake: each is put aside in turn, and the rest parsed again.

use clap::{
    ArgMatches, Command, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{ffi::OsString, process};

/// What was asked for, or every mistake in it, of which there is one then.
pub fn parse(command: &Command, mut arguments: Vec<OsString>) -> Result<ArgMatches, Vec<Error>> {
    let mut mistakes = vec![];
    loop {
        let mistake = match command.clone().try_get_matches_from(&arguments) {
            Ok(matches) if mistakes.is_empty() => return Ok(matches),
            Ok(_) => return Err(mistakes),
            Err(mistake) => mistake,
        };
        let rest = without(&arguments, &mistake);
        // What is missing after the first mistake, we may have put aside ourselves.
        if rest.is_some() || mistakes.is_empty() {
            mistakes.push(mistake);
        }
        let Some(rest) = rest else { return Err(mistakes) };
        arguments = rest;
    }
}

/// Says all of them, how the command is used once, and ends. Help, which the parser takes for a mistake, is printed.
pub fn tell(mistakes: &[Error]) -> ! {
    let Some((last, others)) = mistakes.split_last() else { process::exit(2) };
    for mistake in others {
        let text = mistake.to_string();
        let usage = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|end| text.find(end)).min();
        eprintln!("{}\n", text[..usage.unwrap_or(text.len())].trim_end());
    }
    last.exit()
}

/// The arguments but for the one that the mistake is in; `None` where it is in no single one.
fn without(arguments: &[OsString], mistake: &Error) -> Option<Vec<OsString>> {
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    // `--rps <N>`
    let flag = text(mistake, ContextKind::InvalidArg)?.split(' ').next()?;
    let joined = format!("{flag}=");
    let aside = match mistake.kind() {
        ErrorKind::UnknownArgument => {
            let at = words.iter().position(|word| *word == flag || word.starts_with(&joined))?;
            // And its value, if it was to have one.
            let has_value = words[at] == flag && words.get(at + 1).is_some_and(|next| !next.starts_with('-'));
            at..at + 1 + usize::from(has_value)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = text(mistake, ContextKind::InvalidValue)?;
            // The parser names `--window`, whoever wrote `-t`.
            let is_short = |word: &str| word.starts_with('-') && !word.starts_with("--");
            let apart =
                words.windows(2).position(|pair| (pair[0] == flag || is_short(&pair[0])) && pair[1] == value);
            let whole = words
                .iter()
                .position(|word| word.ends_with(value) && (word.starts_with(&joined) || is_short(word)));
            apart.map(|at| at..at + 2).or(whole.map(|at| at..at + 1))?
        }
        _ => return None,
    };
    let mut rest = arguments.to_vec();
    rest.drain(aside);
    Some(rest)
}

fn text(mistake: &Error, kind: ContextKind) -> Option<&str> {
    match mistake.get(kind)? {
        ContextValue::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::arguments::Arguments;
    use clap::CommandFactory;

    /// Each mistake that is told contains one of these texts, in this order.
    fn check(line: &str, expected: &[&str]) {
        let arguments = line.split(' ').map(Into::into).collect();
        let told: Vec<String> = match parse(&Arguments::command(), arguments) {
            Ok(_) => vec![],
            Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        };
        let named = told.iter().zip(expected).all(|(told, expected)| told.contains(expected));
        assert!(told.len() == expected.len() && named, "{line}: {told:#?}");
    }

    #[test]
    fn every_mistake_is_told_once() {
        check("mesh demo --rps 20 --until-ready", &[]);
        check("mesh demo --rps 0", &["--rps"]);
        check(
            "mesh demo --rps 0 --dashboard-addr=nowhere --timeuot 5 --log info --grpc-addr 0",
            &["--rps", "--dashboard-addr", "'--timeuot' found", "--grpc-addr"],
        );
        check("mesh stat -t 2h -o yaml --windw=1m", &["2h", "--windw", "yaml"]);
        check("mesh stat -t2h", &["2h"]);
        // One of these alone is wrong.
        check("mesh demo --timeout 0 --rps 0", &["--timeout", "--rps"]);
    }

    #[test]
    fn what_is_no_single_arguments_mistake_is_told_alone() {
        check("mesh", &["Usage"]);
        check("mesh frobnicate --rps 0", &["frobnicate"]);
        check("mesh demo --until-ready --no-traffic", &["cannot be used with"]);
        check("mesh demo --rps", &["--rps"]);
        check("mesh completion abacus", &["abacus"]);
        // What it lacks now may be what was put aside.
        check("mesh authz --form a/b", &["--form"]);
    }
}
