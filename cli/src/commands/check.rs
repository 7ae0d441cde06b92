//! `mesh check`: is everything as it should be, and what to do where it is not. Without a cluster the operator says it all; on a
//! cluster we look at what holds the operator as well.

mod injector;
mod installed;
mod kubernetes;
mod made;
mod pre;
mod report;

use super::{print_json, values};
use crate::{
    api::Client,
    arguments::{CheckOptions, CheckOutput, ValuesOptions},
    cluster::Cluster,
    reach::Reach,
    say::say,
    screen::Screen,
};
use anyhow::bail;
use mesh_api::check::{CheckList, Outcome};
use mesh_charts::values::Values;
use std::{process::ExitCode, time::Duration};
use tokio::time::{self, Instant};

/// Of a mesh that was just installed.
const CLUSTER_WAIT: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What is looked at.
enum Subject {
    /// With what would be installed.
    Cluster(Cluster, Box<Values>),
    Mesh(Client),
}

pub async fn run(reach: &Reach, options: CheckOptions) -> anyhow::Result<ExitCode> {
    let subject = match options.pre {
        true => {
            let namespace = options.namespace.as_deref().or(reach.options.mesh_namespace.as_deref());
            let values = values::read(&options.values, namespace, None)?;
            Subject::Cluster(reach.cluster().await?, Box::new(values))
        }
        false if options.values != ValuesOptions::default() => {
            bail!("--set, --values and --ha say what is to be installed: they go with --pre")
        }
        false => Subject::Mesh(reach.operator().await?),
    };
    let has_mesh = matches!(&subject, Subject::Mesh(api) if api.on().is_some());
    let wait = options.wait.unwrap_or(if has_mesh { CLUSTER_WAIT } else { Duration::ZERO });
    let list = settled(&subject, &options, wait).await?;
    match options.output {
        CheckOutput::Json => print_json(&list)?,
        CheckOutput::Table => say(&report::text(&list)),
        CheckOutput::Short => say(&report::short(&list)),
    }
    Ok(if report::worst(&list) == Outcome::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The checks as soon as none fails, or when the time is over.
async fn settled(subject: &Subject, options: &CheckOptions, wait: Duration) -> anyhow::Result<CheckList> {
    let deadline = Instant::now() + wait;
    let mut screen = Screen::new();
    loop {
        let list = checks(subject, options).await?;
        let mut failing = list.checks.iter().filter(|check| check.outcome == Outcome::Fail);
        let Some(first) = failing.next() else { return Ok(list) };
        if Instant::now() + PAUSE >= deadline {
            return Ok(list);
        }
        screen.step(&format!("waiting: {} ({} more fail)", first.name, failing.count()));
        time::sleep(PAUSE).await;
    }
}

async fn checks(subject: &Subject, options: &CheckOptions) -> anyhow::Result<CheckList> {
    let api = match subject {
        Subject::Cluster(cluster, values) => {
            return Ok(CheckList { checks: pre::checks(cluster, values).await });
        }
        Subject::Mesh(api) => api,
    };
    let Some(operator) = api.on() else {
        let mut list = installed::of_the_operator(api, options).await?;
        list.checks.retain(|check| !options.proxy || installed::is_of_proxies(check));
        return Ok(list);
    };
    Ok(CheckList { checks: installed::checks(operator, api, options).await })
}
