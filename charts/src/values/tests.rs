use super::*;

#[track_caller]
fn given(files: &[&str], sets: &[&str]) -> Result<Values, String> {
    let mut given = Given::default();
    for file in files {
        given.file(file).map_err(|e| e.to_string())?;
    }
    for set in sets {
        given.set(set).map_err(|e| e.to_string())?;
    }
    given.check().map_err(|e| e.to_string())
}

#[test]
fn the_last_word_wins_and_the_rest_stays() {
    let values = given(
        &[
            "proxy: { cores: 2, log: debug }",
            "proxy: { cores: 3 }\noperator: { nodeSelector: { disk: ssd } }",
        ],
        &["proxy.cores=4,ha=true", r"operator.podAnnotations.a\.b/c=x\,y", "images.pullSecrets={one,two}"],
    )
    .unwrap();
    assert_eq!((values.proxy.cores, values.proxy.log.as_str(), values.ha), (4, "debug", true));
    assert_eq!(values.operator.node_selector.len(), 2);
    assert_eq!(values.operator.pod_annotations["a.b/c"], "x,y");
    assert_eq!(values.images.pull_secrets, ["one", "two"]);
    assert_eq!(values.proxy.resources, Proxy::default().resources);
}

#[test]
fn null_takes_a_default_away() {
    let values = given(&["proxy: { resources: { limits: { memory: null } } }"], &[]).unwrap();
    assert!(values.proxy.resources.limits.is_empty());
}

#[test]
fn what_is_wrong_is_named() {
    for (set, expected) in [
        ("proxy.corse=1", "values: proxy.corse: unknown field `corse`"),
        ("proxy.cores=many", "values: proxy.cores: invalid type: string \"many\", expected u16"),
        ("defaultPolicy=open", "values: defaultPolicy: unknown variant `open`"),
        ("ha", "\"ha\": want path=value, such as proxy.cores=2"),
        ("ha=true,=1", "\"=1\": want path=value, such as proxy.cores=2"),
    ] {
        let error = given(&[], &[set]).unwrap_err();
        assert!(error.starts_with(expected), "{set}: {error}");
    }
    assert_eq!(
        given(&["ha: true"], &["ha.x=1"]).unwrap_err(),
        "\"ha.x=1\": \"ha\" is a value already, not a group of values"
    );
}

/// By a later version, whose mesh somebody takes back to ours.
#[test]
fn of_kept_values_only_what_is_known_counts() {
    let kept = "proxy: { log: debug, warmth: 3, cores: many, resources: { limits: { gpu: '1' } } }\n\
                weather: { wind: 4 }\noperator: { podAnnotations: { any: thing } }\n";
    let mut given = Given::default();
    let mut unknown = given.kept(kept).unwrap();
    unknown.sort();
    assert_eq!(unknown, ["proxy.warmth", "weather"]);
    let wrong = given.clone().check().unwrap_err().to_string();
    assert!(wrong.starts_with("values: proxy.cores: "), "what is known has to be right: {wrong}");
    given.set("proxy.cores=2").unwrap();
    let values = given.clone().check().unwrap();
    assert_eq!((values.proxy.log.as_str(), values.proxy.resources.limits["gpu"].as_str()), ("debug", "1"));
    assert_eq!(values.operator.pod_annotations["any"], "thing");
    given.set("proxy.warmth=3").unwrap();
    assert!(given.check().is_err(), "who gives it now is told");
}

/// Both are written by `cargo xtask docs`.
#[test]
fn the_charts_files_are_what_the_types_say() {
    assert_eq!(include_str!("../../mesh/values.yaml"), commented_yaml());
    assert_eq!(include_str!("../../mesh/values.schema.json"), json_schema());
    assert_eq!(given(&[include_str!("../../mesh/values.yaml")], &[]).unwrap(), Values::default());
}

#[test]
fn every_value_has_a_meaning() {
    let mute: Vec<String> =
        markdown().lines().filter(|line| line.ends_with("|  |")).map(str::to_owned).collect();
    assert_eq!(mute, ["x"; 0]);
}
