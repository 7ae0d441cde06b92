//! What `mesh check` prints: failures first, each with its remedy.

use crate::{
    api::feed::Feed,
    format,
    pages::shell::stale,
    parts::{empty::Waiting, glyph::Glyph},
};
use leptos::prelude::*;
use mesh_api::{
    check::{Check, CheckList, Outcome},
    health::Health,
};

#[component]
pub fn Checks() -> impl IntoView {
    let feed: Feed = expect_context();
    let data = feed.follow::<CheckList>("checks", || "api/v1/checks".into());
    let groups = Memo::new(move |_| data.with(|list| list.as_ref().map(|list| groups(&list.checks))));
    let verdict = move || {
        data.with(|list| {
            let checks = list.as_ref().map(|list| list.checks.as_slice()).unwrap_or_default();
            let of = |outcome| checks.iter().filter(|check| check.outcome == outcome).count() as u64;
            match (of(Outcome::Fail), of(Outcome::Warn)) {
                (0, 0) => format!("all {} pass", checks.len()),
                (0, warnings) => format::count(warnings, "warning"),
                (failures, 0) => format!("{} failed", format::count(failures, "check")),
                (failures, warnings) => format!(
                    "{} failed, {}",
                    format::count(failures, "check"),
                    format::count(warnings, "warning")
                ),
            }
        })
    };
    view! {
        <div class=move || format!("page {}", stale(feed))>
            <h1>"Checks " <small>{move || groups.with(Option::is_some).then(verdict)}</small></h1>
            {move || match groups.get() {
                None => view! { <Waiting/> }.into_any(),
                Some(groups) => groups.into_iter().map(group).collect_view().into_any(),
            }}
            <p class="quiet">"The same on the command line: " <code>"mesh check"</code></p>
        </div>
    }
}

/// Checks by group; the worst group first, the worst check first within it.
fn groups(checks: &[Check]) -> Vec<(String, Vec<Check>)> {
    let mut groups: Vec<(String, Vec<Check>)> = Vec::new();
    for check in checks {
        match groups.iter_mut().find(|(name, _)| *name == check.group) {
            Some((_, members)) => members.push(check.clone()),
            None => groups.push((check.group.clone(), vec![check.clone()])),
        }
    }
    for (_, members) in &mut groups {
        members.sort_by_key(|check| std::cmp::Reverse(check.outcome));
    }
    groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.first().map(|check| check.outcome)));
    groups
}

fn group((name, checks): (String, Vec<Check>)) -> impl IntoView {
    let title = name.clone();
    view! {
        <section class="box" aria-label=name>
            <h2>{title}</h2>
            {checks.into_iter().map(check).collect_view()}
        </section>
    }
}

fn check(check: Check) -> impl IntoView {
    let (health, word) = match check.outcome {
        Outcome::Pass => (Health::Healthy, "passes"),
        Outcome::Warn => (Health::Degraded, "warning"),
        Outcome::Fail => (Health::Failing, "failed"),
    };
    let findings = (!check.findings.is_empty()).then(|| {
        view! { <ul>{check.findings.into_iter().map(|finding| view! { <li>{finding}</li> }).collect_view()}</ul> }
    });
    let remedy = (!check.remedy.is_empty()).then(|| {
        let text = check.remedy.clone();
        view! { <p class="remedy"><span>{check.remedy}</span><CopyButton text=text/></p> }
    });
    view! {
        <div class="check">
            <Glyph health=health quiet=true/>
            <p>{check.name} <span class="hidden-text">{format!(": {word}")}</span></p>
            {findings}
            {remedy}
        </div>
    }
}

#[component]
fn CopyButton(text: String) -> impl IntoView {
    let copied = RwSignal::new(false);
    let copy = move |_| {
        // Without a secure context there is no clipboard; the text can still be selected.
        let _ = window().navigator().clipboard().write_text(&text);
        copied.set(true);
        set_timeout(
            move || {
                copied.try_set(false);
            },
            std::time::Duration::from_secs(2),
        );
    };
    view! { <button class="pick" on:click=copy>{move || if copied.get() { "Copied" } else { "Copy" }}</button> }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first() {
        let check = |group: &str, name: &str, outcome| Check {
            group: group.into(),
            name: name.into(),
            outcome,
            findings: vec![],
            remedy: String::new(),
        };
        let checks = [
            check("identity", "a", Outcome::Pass),
            check("routes", "b", Outcome::Pass),
            check("routes", "c", Outcome::Fail),
        ];
        let order: Vec<String> =
            groups(&checks).into_iter().flat_map(|(_, members)| members).map(|check| check.name).collect();
        assert_eq!(order, ["c", "b", "a"]);
    }
}
