//! `mesh`: starts the demo, installs the mesh on a cluster, and asks a running operator what the mesh does and why.

mod api;
mod arguments;
mod cluster;
mod commands;
mod demo;
mod installation;
mod mistakes;
mod place;
mod reach;
mod say;
mod screen;
mod table;

use arguments::{Arguments, Command};
use clap::{CommandFactory, FromArgMatches};
use reach::Reach;
use std::{ffi::OsStr, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let name = named(std::env::args_os().next().as_deref());
    let command = Arguments::command().bin_name(name);
    let words = arguments::in_order(&command, std::env::args_os().collect());
    let matches = mistakes::parse(&command, words);
    let arguments =
        Arguments::from_arg_matches(&matches.unwrap_or_else(|mistakes| mistakes::tell(&mistakes)));
    match run(arguments.unwrap_or_else(|e| e.exit())) {
        // What, and why, was said where it happened.
        Ok(_) if say::is_lost() => ExitCode::FAILURE,
        Ok(code) => code,
        Err(e) => {
            eprintln!("mesh: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// What somebody typed: kubectl calls its plugins by a name of their own.
fn named(program: Option<&OsStr>) -> &'static str {
    let stem = program.and_then(|program| Path::new(program).file_stem());
    if stem.is_some_and(|stem| stem == "kubectl-mesh") { "kubectl mesh" } else { "mesh" }
}

/// One thread: children that are bound to our life (`demo`) are bound to the life of the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn run(Arguments { operator, cluster, command }: Arguments) -> anyhow::Result<ExitCode> {
    let reach = Reach { operator, options: cluster };
    match command {
        Command::Demo(options) => return demo::run(options).await,
        Command::Check(options) => return commands::check::run(&reach, options).await,
        Command::Install(options) => commands::install::run(&reach, options).await?,
        Command::Upgrade(options) => commands::upgrade::run(&reach, options).await?,
        Command::Uninstall(options) => commands::uninstall::run(&reach, options).await?,
        Command::Inject(options) => commands::inject::run(&reach, options)?,
        Command::Uninject(options) => commands::uninject::run(options)?,
        Command::Dashboard(options) => commands::dashboard::run(&reach.operator().await?, options).await?,
        Command::Stat(options) => commands::stat::run(&reach.operator().await?, options).await?,
        Command::Edges(options) => commands::edges::run(&reach.operator().await?, options).await?,
        Command::Routes(options) => commands::routes::run(&reach.operator().await?, options).await?,
        Command::Endpoints(options) => commands::endpoints::run(&reach.operator().await?, options).await?,
        Command::Policy(options) => commands::policy::run(&reach.operator().await?, options).await?,
        Command::Authz(options) => commands::authz::run(&reach.operator().await?, options).await?,
        Command::Identity(options) => return commands::identity::run(&reach, options).await,
        Command::Version(options) => commands::version::run(&reach, options).await?,
        Command::Completion { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Arguments::command(), "mesh", &mut script);
            say::say(&String::from_utf8_lossy(&script));
        }
        Command::Reference { page } => say::say(&commands::reference::page(page)),
    }
    Ok(ExitCode::SUCCESS)
}
