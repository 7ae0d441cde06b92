//! What is written into the status of objects: of routes our verdict on each parentRef beside what other controllers say, of our own
//! policies whether they are in force. A pure plan, carried out by `duties`.

use k8s_openapi::jiff::Timestamp;
use mesh_api::{names, route::Condition};
use mesh_policy::{PolicyStatus, RouteStatus};
use serde_json::{Map, Value, json};

/// Condition types that are ours to write and to remove.
const OURS: [&str; 3] = ["Accepted", "ResolvedRefs", "PartiallyInvalid"];

/// `status.parents` as it is to be. `None` where `written` says it already, or speaks of a newer route than we have read.
pub fn parents(written: &[Value], wanted: &RouteStatus, now: Timestamp) -> Option<Vec<Value>> {
    let is_ours = |entry: &&Value| entry["controllerName"] == names::CONTROLLER_NAME;
    if written.iter().filter(is_ours).any(|entry| newest(entry) > wanted.generation) {
        return None;
    }
    let mut entries: Vec<Value> = written.iter().filter(|entry| !is_ours(entry)).cloned().collect();
    for (parent, conditions) in &wanted.parents {
        let parent = json!(parent);
        let before = written.iter().filter(is_ours).find(|entry| entry["parentRef"] == parent);
        let entry = json!({
            "parentRef": parent,
            "controllerName": names::CONTROLLER_NAME,
            "conditions": merged(before, conditions, wanted.generation, now),
        });
        entries.push(entry);
    }
    (!same(written, &entries)).then_some(entries)
}

/// `status.conditions` of a policy as far as they are ours, to be applied. `None` where `written` says it already, or speaks of a
/// newer policy than we have read.
pub fn conditions(written: &[Value], wanted: &PolicyStatus, now: Timestamp) -> Option<Vec<Value>> {
    let before = json!({"conditions": written});
    if newest(&before) > wanted.generation {
        return None;
    }
    let all = merged(Some(&before), &wanted.conditions, wanted.generation, now);
    let ours = |condition: &Value| OURS.iter().any(|own| condition["type"] == *own);
    (!same(written, &all)).then(|| all.into_iter().filter(ours).collect())
}

/// The generation that an entry speaks of.
fn newest(entry: &Value) -> i64 {
    let conditions = entry["conditions"].as_array().into_iter().flatten();
    conditions.filter_map(|condition| condition["observedGeneration"].as_i64()).max().unwrap_or(0)
}

/// The conditions of an entry: ours as they are now, with the time of their last change, and those of kinds that we do not write.
fn merged(before: Option<&Value>, conditions: &[Condition], generation: i64, now: Timestamp) -> Vec<Value> {
    let kept: &[Value] = before.and_then(|entry| entry["conditions"].as_array()).map_or(&[], Vec::as_slice);
    let ours = conditions.iter().map(|condition| {
        let status = if condition.status { "True" } else { "False" };
        let old = kept.iter().find(|old| old["type"] == condition.kind && old["status"] == status);
        let since = old.map(|old| old["lastTransitionTime"].clone());
        json!({
            "type": condition.kind,
            "status": status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": generation,
            "lastTransitionTime": since.unwrap_or_else(|| seconds(now).into()),
        })
    });
    let foreign = kept.iter().filter(|old| !OURS.iter().any(|own| old["type"] == *own));
    ours.chain(foreign.cloned()).collect()
}

/// As Kubernetes writes times.
fn seconds(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether both say the same; the order of entries does not matter.
fn same(a: &[Value], b: &[Value]) -> bool {
    let texts = |entries: &[Value]| {
        let mut texts: Vec<String> = entries.iter().map(|entry| sorted(entry).to_string()).collect();
        texts.sort();
        texts
    };
    texts(a) == texts(b)
}

/// With keys in order, whatever order they came in, and lists of conditions too.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let fields = fields.into_iter().map(|(key, value)| (key.clone(), sorted(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Array(all) => {
            let mut all: Vec<Value> = all.iter().map(sorted).collect();
            all.sort_by_key(|value| value["type"].as_str().map(str::to_owned));
            Value::Array(all)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_policy::gateway::ParentRef;

    const THEN: &str = "2026-01-01T00:00:00Z";

    fn now() -> Timestamp {
        "2026-02-02T00:00:00.5Z".parse().unwrap()
    }

    fn wanted(generation: i64, accepted: bool) -> RouteStatus {
        let parent = ParentRef {
            group: Some(String::new()),
            kind: Some("Service".into()),
            name: "cart".into(),
            ..ParentRef::default()
        };
        let condition = |kind: &str, status: bool| Condition {
            kind: kind.into(),
            status,
            reason: if status { kind.into() } else { "NoMatchingParent".into() },
            message: String::new(),
        };
        let conditions = vec![condition("Accepted", accepted), condition("ResolvedRefs", true)];
        RouteStatus {
            kind: "HTTPRoute",
            namespace: "shop".into(),
            name: "cart".into(),
            generation,
            parents: vec![(parent, conditions)],
        }
    }

    fn ours(generation: i64) -> Value {
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation, "lastTransitionTime": THEN});
        json!({
            "controllerName": "mesh.dev/mesh",
            "parentRef": {"name": "cart", "kind": "Service", "group": ""},
            "conditions": [condition("Accepted"), condition("ResolvedRefs")],
        })
    }

    fn foreign() -> Value {
        json!({"controllerName": "example.com/gateway", "parentRef": {"name": "gw", "extra": 1}, "conditions": [{"type": "Accepted", "status": "False"}]})
    }

    #[test]
    fn a_first_verdict_stands_beside_those_of_others() {
        let parents = parents(&[foreign()], &wanted(3, true), now()).unwrap();
        assert_eq!(parents[0], foreign());
        assert_eq!(
            parents[1]["parentRef"],
            json!({"group": "", "kind": "Service", "name": "cart"}),
            "as written"
        );
        assert_eq!(parents[1]["conditions"][0]["observedGeneration"], 3);
        assert_eq!(parents[1]["conditions"][0]["lastTransitionTime"], "2026-02-02T00:00:00Z");
    }

    #[test]
    fn nothing_is_written_that_is_there() {
        assert_eq!(parents(&[ours(3), foreign()], &wanted(3, true), now()), None);
    }

    #[test]
    fn a_newer_generation_keeps_the_time_of_the_last_change() {
        let parents = parents(&[ours(3)], &wanted(4, false), now()).unwrap();
        let conditions = parents[0]["conditions"].as_array().unwrap();
        assert_eq!(
            (&conditions[0]["status"], &conditions[0]["lastTransitionTime"]),
            (&"False".into(), &"2026-02-02T00:00:00Z".into())
        );
        assert_eq!(
            (&conditions[1]["observedGeneration"], &conditions[1]["lastTransitionTime"]),
            (&4.into(), &THEN.into())
        );
    }

    #[test]
    fn an_older_generation_never_replaces_a_newer_one() {
        assert_eq!(parents(&[ours(5)], &wanted(4, false), now()), None);
    }

    #[test]
    fn a_parent_that_is_gone_takes_its_entry_along() {
        let none = RouteStatus { parents: vec![], ..wanted(4, true) };
        assert_eq!(parents(&[ours(3), foreign()], &none, now()), Some(vec![foreign()]));
        assert_eq!(parents(&[foreign()], &none, now()), None);
    }

    #[test]
    fn a_policys_status_is_written_when_it_is_new_and_left_when_it_is_not() {
        let wanted = |generation: i64| PolicyStatus {
            namespace: "shop".into(),
            name: "cart".into(),
            generation,
            conditions: vec![Condition {
                kind: "Accepted".into(),
                status: true,
                reason: "Accepted".into(),
                message: String::new(),
            }],
        };
        let first = conditions(&[], &wanted(1), now()).unwrap();
        assert_eq!((&first[0]["status"], &first[0]["observedGeneration"]), (&"True".into(), &1.into()));
        let foreign = json!({"type": "Reviewed", "status": "True"});
        let written = [first[0].clone(), foreign];
        assert_eq!(conditions(&written, &wanted(1), now()), None);
        let next = conditions(&written, &wanted(2), now()).unwrap();
        assert_eq!(next.len(), 1, "what others say is theirs to apply");
        assert_eq!(next[0]["observedGeneration"], 2);
        assert_eq!(
            conditions(&next, &wanted(1), now()),
            None,
            "an older policy never speaks over a newer one"
        );
    }

    #[test]
    fn conditions_of_other_kinds_stay() {
        let mut before = ours(3);
        before["conditions"].as_array_mut().unwrap().push(json!({"type": "Other", "status": "True"}));
        before["conditions"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "PartiallyInvalid", "status": "True"}));
        let parents = parents(&[before], &wanted(4, true), now()).unwrap();
        let kinds: Vec<&str> = parents[0]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|own| own["type"].as_str())
            .collect();
        assert_eq!(kinds, ["Accepted", "ResolvedRefs", "Other"]);
    }
}
