//! `mesh routes`: what each route asks for, whether it was accepted, and where the traffic really went.

use super::{print_json, print_table};
use crate::{
    api::Client,
    arguments::{Output, WindowOptions},
    say::say,
    table::{Table, dash, millis, percent, rate},
};
use mesh_api::route::{Route, RouteList};

pub async fn run(api: &Client, options: WindowOptions) -> anyhow::Result<()> {
    let query = [("ns", options.namespace.as_deref()), ("window", Some(options.window.as_str()))];
    let list: RouteList = api.get("/api/v1/routes", &query).await?;
    if options.output == Output::Json {
        return print_json(&list);
    }
    print_table(&table(&list), "no routes: every Service's traffic goes to its own endpoints");
    for problem in list.routes.iter().flat_map(problems) {
        say(&format!("{problem}\n"));
    }
    Ok(())
}

fn table(list: &RouteList) -> Table {
    let mut table = Table::new(&[
        "ROUTE",
        "MATCH",
        "BACKEND",
        "WEIGHT",
        "WANTED",
        "OBSERVED",
        "SUCCESS",
        "RPS",
        "LATENCY_P50",
        "LATENCY_P99",
    ]);
    for route in &list.routes {
        let name = format!("{} {}/{}", route.kind, route.namespace, route.name);
        for rule in &route.rules {
            for backend in &rule.backends {
                table.row(vec![
                    name.clone(),
                    rule.matches.clone(),
                    backend.name.clone(),
                    backend.weight.to_string(),
                    percent(Some(backend.wanted)),
                    percent(backend.observed),
                    percent(backend.golden.success),
                    rate(backend.golden.rate_per_s),
                    millis(backend.golden.p50_ms),
                    millis(backend.golden.p99_ms),
                ]);
            }
            if rule.backends.is_empty() {
                let mut cells = vec![name.clone(), rule.matches.clone(), rule.filters.join(", ")];
                cells.resize_with(10, dash);
                table.row(cells);
            }
        }
    }
    table
}

/// A line for each condition that is not met and each backend that cannot serve.
fn problems(route: &Route) -> Vec<String> {
    let name = format!("{} {}/{}", route.kind, route.namespace, route.name);
    let mut lines = vec![];
    for parent in &route.parents {
        for condition in parent.conditions.iter().filter(|condition| condition.is_bad()) {
            lines.push(format!(
                "× {name} on {}: {} {}: {}",
                parent.parent, condition.kind, condition.reason, condition.message
            ));
        }
    }
    for backend in route.rules.iter().flat_map(|rule| &rule.backends) {
        if let Some(problem) = &backend.problem {
            lines.push(format!("× {name}: backend {}: {problem}", backend.name));
        }
    }
    lines
}
