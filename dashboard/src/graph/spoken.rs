//! Tells a screen reader when something's health changes: politely, changes only, at most once in five seconds.

use crate::{
    clock::Clock,
    graph::{model::spoken, view::View},
};
use leptos::prelude::*;
use mesh_api::health::Health;
use std::collections::HashMap;

const PAUSE_S: u32 = 5;

#[component]
pub fn Changes(view: View) -> impl IntoView {
    let clock: Clock = expect_context();
    let said = RwSignal::new(String::new());
    let due = clock.every(PAUSE_S);
    Effect::new(move |before: Option<HashMap<String, Health>>| {
        due.get();
        let now: HashMap<String, Health> = view.model.topology.with_untracked(|topology| {
            view.model.metrics.with_untracked(|metrics| {
                let (Some(topology), Some(metrics)) = (topology, metrics) else { return HashMap::new() };
                topology.nodes.iter().zip(&metrics.nodes).map(|(node, m)| (spoken(node), m.health)).collect()
            })
        });
        if let Some(before) = before {
            let text = changes(&before, &now);
            if !text.is_empty() {
                said.set(text);
            }
        }
        now
    });
    view! { <p class="hidden-text" role="status" aria-live="polite">{said}</p> }
}

/// "ratings v1 is failing, reviews v2 is healthy".
fn changes(before: &HashMap<String, Health>, now: &HashMap<String, Health>) -> String {
    let mut changed: Vec<String> = now
        .iter()
        .filter(|(name, health)| before.get(*name).is_some_and(|old| old != *health))
        .map(|(name, health)| format!("{name} is {}", health.word()))
        .collect();
    changed.sort();
    changed.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_said() {
        let of = |ratings, reviews| {
            HashMap::from([("ratings v1".to_owned(), ratings), ("reviews v2".to_owned(), reviews)])
        };
        assert_eq!(
            changes(&of(Health::Healthy, Health::Idle), &of(Health::Failing, Health::Idle)),
            "ratings v1 is failing"
        );
        assert_eq!(
            changes(&HashMap::new(), &of(Health::Failing, Health::Idle)),
            "",
            "new ones are no change"
        );
    }
}
