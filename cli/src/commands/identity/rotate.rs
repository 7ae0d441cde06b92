//! `mesh identity rotate`: asks for new roots, and tells line by line how far that is. The operator does it, whether somebody looks or not.

use crate::{api::Client, arguments::RotateOptions, reach::Reach, say::say};
use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use mesh_api::{
    identities::{IdentityList, Phase, Rotation},
    names,
};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::{signal, time};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Proxies that a line names.
const NAMED: usize = 3;
/// An operator that does not answer is asked again for so long: it may be a replica that has just gone.
const AWAY: Duration = Duration::from_secs(30);

const GOES_ON: &str = "the operator goes on by itself; `mesh identity rotate` shows how far it is";

pub async fn run(reach: &Reach, api: &Client, options: RotateOptions) -> anyhow::Result<()> {
    let first = look(api).await?;
    match first.rotation.phase {
        Phase::Refused => bail!("the root is not changed here: {}", first.rotation.reason),
        Phase::Idle => begin(reach, &first.rotation.secret).await?,
        Phase::Asked | Phase::Spreading | Phase::Renewing => {
            say("a change to a new root is under way\n");
        }
    }
    tokio::select! {
        followed = time::timeout(options.timeout, follow(api, &first)) => match followed {
            Ok(followed) => followed,
            Err(_) => bail!("not done after {} s: {GOES_ON}", options.timeout.as_secs()),
        },
        interrupted = signal::ctrl_c() => {
            interrupted.context("waiting for Ctrl-C")?;
            say(&format!("not waiting any longer: {GOES_ON}\n"));
            Ok(())
        }
    }
}

async fn look(api: &Client) -> anyhow::Result<IdentityList> {
    api.get("/api/v1/identities", &[]).await
}

/// Whoever may annotate the Secret with the keys may ask for others.
async fn begin(reach: &Reach, secret: &str) -> anyhow::Result<()> {
    let (namespace, name) = secret.split_once('/').context("the operator has not said where its keys are")?;
    let cluster = reach.cluster().await?;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    let patch = Patch::Merge(json!({"metadata": {"annotations": {names::ROTATE: "asked"}}}));
    cluster.ask(secrets.patch_metadata(name, &PatchParams::default(), &patch)).await?;
    say(&format!("√ asked for a new root: Secret {secret} is annotated\n"));
    Ok(())
}

/// Until there is one root again, and another one than before where it was us who asked.
async fn follow(api: &Client, first: &IdentityList) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut heard = Instant::now();
    let mut said = String::new();
    loop {
        time::sleep(PAUSE).await;
        let now = match look(api).await {
            Ok(now) => now,
            Err(error) if heard.elapsed() > AWAY => return Err(error.context(GOES_ON)),
            Err(_) => continue,
        };
        heard = Instant::now();
        if now.rotation.phase == Phase::Idle && now.trust_anchors_hash != first.trust_anchors_hash {
            say(&format!(
                "√ every proxy is under the new root, the old one is gone ({} s)\n",
                started.elapsed().as_secs()
            ));
            return Ok(());
        }
        let line = line(&now.rotation);
        if line != said && !line.is_empty() {
            say(&format!("{:>4} s  {line}\n", started.elapsed().as_secs()));
            said = line;
        }
    }
}

/// How far it is; empty where there is nothing to say.
fn line(rotation: &Rotation) -> String {
    let what = match rotation.phase {
        Phase::Refused | Phase::Idle | Phase::Asked => return String::new(),
        Phase::Spreading => "have the new root beside the old one",
        Phase::Renewing => "have a certificate of the new issuer",
    };
    let mut line = format!("{} of {} proxies {what}", rotation.followed, rotation.of);
    for waiting in rotation.waiting.iter().take(NAMED) {
        line += &format!("\n          {}: {}", waiting.pod, waiting.why);
    }
    let more = rotation.waiting.len().saturating_sub(NAMED);
    if more > 0 {
        line += &format!("\n          and {more} more");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::identities::Waiting;

    #[test]
    fn a_line_says_how_many_and_names_who_is_waited_for() {
        let waiting = |pod: &str| Waiting { pod: pod.into(), why: "silent for 20 s".into() };
        let rotation = Rotation {
            phase: Phase::Spreading,
            reason: String::new(),
            secret: "mesh-system/mesh-identity".into(),
            followed: 1,
            of: 5,
            waiting: ["shop/a", "shop/b", "shop/c", "shop/d"].map(waiting).into(),
        };
        insta::assert_snapshot!(line(&rotation), @r"
        1 of 5 proxies have the new root beside the old one
                  shop/a: silent for 20 s
                  shop/b: silent for 20 s
                  shop/c: silent for 20 s
                  and 1 more
        ");
        assert_eq!(line(&Rotation { phase: Phase::Asked, ..rotation }), "");
    }
}
