//! The dense table of workloads: worst first unless sorted, filtered by namespace and the find expression.

use crate::{
    charts::spark::Spark,
    find::{Facts, Find},
    format,
    navigate::use_nav,
    pages::shell::use_find,
    parts::rows::WorkloadName,
    words,
};
use leptos::prelude::*;
use mesh_api::workload::WorkloadRow;
use std::cmp::Ordering;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Name,
    Rate,
    Success,
    P50,
    P95,
    P99,
    Pods,
}

impl Column {
    const ALL: [Column; 7] =
        [Column::Name, Column::Rate, Column::Success, Column::P50, Column::P95, Column::P99, Column::Pods];

    const fn key(self) -> &'static str {
        match self {
            Column::Name => "name",
            Column::Rate => "rps",
            Column::Success => "success",
            Column::P50 => "p50",
            Column::P95 => "p95",
            Column::P99 => "p99",
            Column::Pods => "pods",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Column::Name => "Workload",
            Column::Rate => "Requests/s",
            Column::Success => "Success",
            Column::P50 => "p50",
            Column::P95 => "p95",
            Column::P99 => "p99",
            Column::Pods => "Pods meshed",
        }
    }

    fn compare(self, a: &WorkloadRow, b: &WorkloadRow) -> Ordering {
        // What was not measured goes last when ascending: there is nothing to see in it.
        let numbers = |x: Option<f64>, y: Option<f64>| match (x, y) {
            (Some(x), Some(y)) => x.total_cmp(&y),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        match self {
            Column::Name => (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)),
            Column::Rate => a.golden.rate_per_s.total_cmp(&b.golden.rate_per_s),
            Column::Success => numbers(a.golden.success, b.golden.success),
            Column::P50 => numbers(a.golden.p50_ms, b.golden.p50_ms),
            Column::P95 => numbers(a.golden.p95_ms, b.golden.p95_ms),
            Column::P99 => numbers(a.golden.p99_ms, b.golden.p99_ms),
            Column::Pods => a.meshed_pods.cmp(&b.meshed_pods),
        }
    }
}

/// A column and a direction, as in the URL: `rps`, or `-rps` for falling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sort {
    column: Column,
    falling: bool,
}

impl Sort {
    fn parse(text: &str) -> Option<Sort> {
        let key = text.trim_start_matches('-');
        let column = Column::ALL.into_iter().find(|column| column.key() == key)?;
        Some(Sort { column, falling: text.starts_with('-') })
    }

    fn text(self) -> String {
        format!("{}{}", if self.falling { "-" } else { "" }, self.column.key())
    }

    /// A click on a title: numbers begin with the largest, names with the first; again turns it round.
    fn clicked(now: Option<Sort>, column: Column) -> Sort {
        match now {
            Some(sort) if sort.column == column => Sort { column, falling: !sort.falling },
            _ => Sort { column, falling: column != Column::Name },
        }
    }
}

fn select(
    mut rows: Vec<WorkloadRow>,
    find: &Find,
    shows: impl Fn(&str) -> bool,
    sort: Option<Sort>,
) -> Vec<WorkloadRow> {
    rows.retain(|row| {
        shows(&row.namespace)
            && find.matches(&Facts {
                names: [&row.name, &row.app, ""],
                namespace: &row.namespace,
                version: row.version.as_deref().unwrap_or(""),
                health: Some(row.health),
                golden: Some(&row.golden),
                mtls: None,
                meshed: row.meshed_pods > 0,
            })
    });
    if let Some(Sort { column, falling }) = sort {
        rows.sort_by(|a, b| if falling { column.compare(b, a) } else { column.compare(a, b) });
    }
    rows
}

#[component]
pub fn WorkloadTable(#[prop(into)] rows: Signal<Vec<WorkloadRow>>) -> impl IntoView {
    let nav = use_nav();
    let find = use_find();
    let sort_text = nav.param("sort");
    let sort = Memo::new(move |_| sort_text.with(|text| text.as_deref().and_then(Sort::parse)));
    let shown = Memo::new(move |_| {
        let place = nav.place();
        find.with(|find| select(rows.get(), find, |ns| place.shows(ns), sort.get()))
    });
    let keys = Memo::new(move |_| {
        shown
            .with(|rows| rows.iter().map(|row| (row.namespace.clone(), row.name.clone())).collect::<Vec<_>>())
    });
    let title = move |column: Column| {
        let order = move || {
            let sort = sort.get().filter(|sort| sort.column == column)?;
            Some(if sort.falling { "descending" } else { "ascending" })
        };
        let arrow = move || match order() {
            Some("descending") => " ↓",
            Some(_) => " ↑",
            None => "",
        };
        let click = move |_| nav.set("sort", Sort::clicked(sort.get_untracked(), column).text());
        view! { <th scope="col" aria-sort=order><button on:click=click>{column.title()}{arrow}</button></th> }
    };
    let row = move |(namespace, name): (String, String)| {
        let row = Memo::new(move |_| {
            shown.with(|rows| rows.iter().find(|row| row.namespace == namespace && row.name == name).cloned())
        });
        workload_row(row)
    };
    let empty = move || {
        keys.with(Vec::is_empty)
            .then(|| view! { <tr><td class="none" colspan="8">"No workload matches."</td></tr> })
    };
    view! {
        <div class="scroll" tabindex="0" role="region" aria-label="Workloads">
            <table class="table">
                <thead>
                    <tr>
                        {[Column::Name, Column::Rate, Column::Success, Column::P50, Column::P95, Column::P99].map(title).into_iter().collect_view()}
                        <th scope="col">"Requests"</th>
                        {title(Column::Pods)}
                    </tr>
                </thead>
                <tbody>
                    <For each=move || keys.get() key=Clone::clone children=row/>
                    {empty}
                </tbody>
            </table>
        </div>
    }
}

fn workload_row(row: Memo<Option<WorkloadRow>>) -> impl IntoView {
    // Rows are found by their own key, so that one is there for as long as this view is.
    let first = row.get_untracked()?;
    let row = Memo::new(move |before: Option<&WorkloadRow>| {
        row.get().or_else(|| before.cloned()).unwrap_or_else(|| first.clone())
    });
    let WorkloadRow { namespace, name, app, version, .. } = row.get_untracked();
    let label = if app.is_empty() { name.clone() } else { app };
    let version = match version {
        Some(version) => version,
        None if row.with_untracked(|row| row.meshed_pods == 0) => "not meshed".into(),
        None => String::new(),
    };
    let text = move |figure: fn(&WorkloadRow) -> String| move || row.with(figure);
    Some(view! {
        <tr>
            <th scope="row"><WorkloadName health=Signal::derive(move || row.with(|row| row.health)) namespace=namespace name=name label=label version=version/></th>
            <td>{text(rate)}</td>
            <td class=move || row.with(|row| words::success_class(&row.golden))>{text(|row| format::share(row.golden.success).text())}</td>
            <td>{text(|row| format::latency(row.golden.p50_ms).text())}</td>
            <td>{text(|row| format::latency(row.golden.p95_ms).text())}</td>
            <td>{text(|row| format::latency(row.golden.p99_ms).text())}</td>
            <td>
                <Spark
                    values=Signal::derive(move || row.with(|row| row.spark.clone()))
                    health=Signal::derive(move || row.with(|row| row.health))
                />
            </td>
            <td>{text(|row| format!("{} of {}", row.meshed_pods, row.pods))}</td>
        </tr>
    })
}

/// Of a pod without a proxy nothing is known, which is not the same as nothing happening.
fn rate(row: &WorkloadRow) -> String {
    if row.meshed_pods == 0 && row.golden.requests == 0 {
        return format::NONE.into();
    }
    format::rate(row.golden.rate_per_s).value
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::{golden::Golden, health::Health};

    fn row(namespace: &str, name: &str, rate: f64, p99: Option<f64>) -> WorkloadRow {
        WorkloadRow {
            namespace: namespace.into(),
            name: name.into(),
            app: name.into(),
            version: None,
            pods: 1,
            meshed_pods: 1,
            health: Health::Healthy,
            reason: String::new(),
            golden: Golden { rate_per_s: rate, p99_ms: p99, ..Golden::default() },
            tcp: None,
            spark: vec![],
        }
    }

    fn check(sort: &str, find: &str, namespace: &str, expected: &[&str]) {
        let rows = vec![
            row("b", "slow", 1.0, Some(90.0)),
            row("a", "idle", 0.0, None),
            row("a", "busy", 9.0, Some(5.0)),
        ];
        let find = Find::parse(find).unwrap();
        let shown = select(rows, &find, |ns| namespace.is_empty() || ns == namespace, Sort::parse(sort));
        assert_eq!(shown.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn rows_are_chosen_and_ordered() {
        check("", "", "", &["slow", "idle", "busy"]);
        check("-rps", "", "", &["busy", "slow", "idle"]);
        check("p99", "", "", &["busy", "slow", "idle"]);
        check("name", "", "a", &["busy", "idle"]);
        check("", "rps>0", "", &["slow", "busy"]);
        check("nonsense", "", "", &["slow", "idle", "busy"]);
    }

    #[test]
    fn a_second_click_turns_the_order() {
        let first = Sort::clicked(None, Column::P99);
        assert_eq!(first.text(), "-p99");
        assert_eq!(Sort::clicked(Some(first), Column::P99).text(), "p99");
        assert_eq!(Sort::clicked(Some(first), Column::Name).text(), "name");
    }
}
