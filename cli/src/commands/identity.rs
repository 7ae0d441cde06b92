//! `mesh identity`: who has which certificate, what a Pod really shows, and a change to a new root.

mod rotate;

use super::{print_json, print_table};
use crate::{
    api::Client,
    arguments::{IdentityAction, IdentityListOptions, IdentityOptions, IdentityShowOptions, Output},
    place,
    reach::Reach,
    say::say,
    table::{Table, dash},
};
use mesh_api::identities::{IdentityList, Served, Standing};
use std::process::ExitCode;

pub async fn run(reach: &Reach, IdentityOptions { action }: IdentityOptions) -> anyhow::Result<ExitCode> {
    let api = reach.operator().await?;
    match action {
        IdentityAction::Rotate(options) => rotate::run(reach, &api, options).await?,
        IdentityAction::List(options) => list(&api, options).await?,
        IdentityAction::Show(options) => return show(&api, options).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(api: &Client, options: IdentityListOptions) -> anyhow::Result<()> {
    let list: IdentityList = api.get("/api/v1/identities", &[("ns", options.namespace.as_deref())]).await?;
    if options.output == Output::Json {
        return print_json(&list);
    }
    let mut table = Table::new(&["NAMESPACE", "POD", "LEFT", "ISSUER", "TRUST_ANCHORS", "IDENTITY"]);
    for pod in &list.pods {
        table.row(vec![
            pod.namespace.clone(),
            pod.name.clone(),
            pod.certificate_left_s.map_or_else(dash, left),
            standing(pod.issuer).into(),
            standing(pod.trust_anchors).into(),
            pod.identity.clone().unwrap_or_else(dash),
        ]);
    }
    print_table(&table, "no Pod is meshed");
    say(&format!(
        "\ntrust anchor: {} left; issuer: {} left\n",
        left(list.trust_anchor_left_s),
        left(list.issuer_left_s)
    ));
    Ok(())
}

async fn show(api: &Client, options: IdentityShowOptions) -> anyhow::Result<ExitCode> {
    let pod = place::full("Pod", &options.pod, options.namespace.as_deref(), api)?;
    let served: Served = api.get(&format!("/api/v1/identities/{pod}"), &[]).await?;
    let code = if served.problem.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if options.output == Output::Json {
        print_json(&served)?;
        return Ok(code);
    }
    for (at, certificate) in served.chain.iter().enumerate() {
        let title = if at == 0 { "certificate" } else { "signed by" };
        say(format!("{title} {}", certificate.subject).trim_end());
        say("\n");
        for (name, value) in [
            ("names", certificate.names.join(", ")),
            ("issuer", certificate.issuer.clone()),
            ("serial", certificate.serial.clone()),
            ("from", certificate.not_before.clone()),
            ("until", format!("{} ({} left)", certificate.not_after, left(certificate.left_s))),
            ("key", certificate.key.clone()),
            ("sha256", certificate.sha256.clone()),
        ] {
            if !value.is_empty() {
                say(&format!("  {name:7} {value}\n"));
            }
        }
    }
    match served.problem.as_str() {
        "" => say("√ the mesh believes it\n"),
        problem => say(&format!("× the mesh does not believe it: {problem}\n")),
    }
    Ok(code)
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Current => "√ current",
        Standing::Other => "‼ other",
        Standing::Unknown => "- unknown",
    }
}

/// What is left of a life, in its two largest units.
fn left(seconds: u64) -> String {
    match seconds {
        0 => "none".into(),
        s if s < 60 => format!("{s}s"),
        s if s < 3_600 => format!("{}m{}s", s / 60, s % 60),
        s if s < 86_400 => format!("{}h{}m", s / 3_600, s % 3_600 / 60),
        s => format!("{}d{}h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::left;

    #[test]
    fn lives_read_well() {
        assert_eq!(
            [0, 59, 61, 86_000, 3_650 * 86_400].map(left),
            ["none", "59s", "1m1s", "23h53m", "3650d0h"]
        );
    }
}
