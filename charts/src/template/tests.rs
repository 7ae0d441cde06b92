use super::Templates;
use serde_json::{Value, json};

/// What the last of these files says, or what is wrong.
#[track_caller]
fn render(files: &[&str], data: Value) -> String {
    let names: Vec<String> = (1..=files.len()).map(|n| format!("{n}.yaml")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(files.iter().copied()).collect();
    let rendered = Templates::parse(&files).and_then(|templates| templates.render(&data));
    match rendered {
        Ok(mut rendered) => rendered.pop().unwrap().1,
        Err(error) => error.to_string(),
    }
}

#[test]
fn actions() {
    let data = json!({
        "name": "web", "empty": "", "n": 3, "float": 1.0, "half": 0.5, "none": null, "on": true,
        "list": ["a", "b"], "map": { "k2": "v2", "k1": "v1" }, "deep": { "er": { "x": 1 } },
    });
    for (template, expected) in [
        ("plain", "plain"),
        ("{{ .name }}-{{ .n }}{{ .none }}", "web-3"),
        ("a\n  {{- .name }}\nb", "aweb\nb"),
        ("a {{ .name -}}\n\n b", "a webb"),
        ("a{{/* why */}}b{{- /* so */ -}} c", "abc"),
        ("{{ if .on }}yes{{ else }}no{{ end }}", "yes"),
        ("{{ if .empty }}1{{ else if eq .name \"web\" }}2{{ else }}3{{ end }}", "2"),
        ("{{ if .empty }}1{{ else if .none }}2{{ else }}3{{ end }}", "3"),
        ("{{ with .deep.er }}{{ .x }}{{ $.name }}{{ end }}", "1web"),
        ("{{ with .empty }}x{{ else }}y{{ end }}", "y"),
        ("{{ range .list }}[{{ . }}]{{ end }}", "[a][b]"),
        ("{{ range $k, $v := .map }}{{ $k }}={{ $v }};{{ end }}", "k1=v1;k2=v2;"),
        ("{{ range .none }}x{{ else }}none{{ end }}", "none"),
        ("{{ .empty | default \"d\" }}{{ default 7 .n }}", "d3"),
        ("{{ quote .name }} {{ .n | quote }} {{ quote \"a\\\"b\" }}", r#""web" "3" "a\"b""#),
        ("{{ and .on .name }}{{ or .empty .n }}{{ not .on }}{{ ne .n 3 }}", "web3falsefalse"),
        ("{{ if and .on (not .empty) (or .none .n) }}all{{ end }}", "all"),
        ("x:{{ toYaml .list | nindent 2 }}", "x:\n  - a\n  - b"),
        ("{{ toJson .map }}{{ toJson \"a<b\" }}", "{\"k1\":\"v1\",\"k2\":\"v2\"}\"a\\u003cb\""),
        ("{{ .float }} {{ toJson .float }} {{ toJson .half }}", "1 1 0.5"),
        ("{{ omit .map \"k1\" \"no\" | toJson }}", "{\"k2\":\"v2\"}"),
        ("{{ indent 2 \"a\\nb\" }}", "  a\n  b"),
        ("{{ sha256sum \"a\" }}", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
    ] {
        assert_eq!(render(&[template], data.clone()), expected, "{template}");
    }
}

#[test]
fn what_is_defined_can_be_included_from_any_file() {
    let helpers = "{{- define \"labels\" -}}\napp: {{ .app }}\n{{- end }}";
    let file = "labels:\n  {{- include \"labels\" . | nindent 2 }}\n";
    assert_eq!(render(&[helpers, file], json!({ "app": "x" })), "labels:\n  app: x\n");
    assert_eq!(render(&[file, helpers], json!({ "app": "x" })), "");
}

#[test]
fn what_is_not_supported_is_named_with_its_line() {
    for (template, expected) in [
        ("a\n\n{{ .nmae }}", "1.yaml:3: .nmae: there is no \"nmae\""),
        ("{{ .name.x }}", "1.yaml:1: .name.x: there is no \"x\""),
        ("{{ lookup \"v1\" }}", "1.yaml:1: lookup with 1 arguments is not supported"),
        ("\n{{ $x := 1 }}", "1.yaml:2: \":=\" is not supported"),
        ("{{ template \"x\" . }}", "1.yaml:1: \"template\" is not supported"),
        ("{{ if .name }}", "1.yaml:1: if without end"),
        ("{{ range .name }}{{ end }}", "1.yaml:1: range: \"web\" is neither list nor map"),
        ("{{ end }}", "1.yaml:1: \"end\" without a beginning"),
        ("\n{{ .name", "1.yaml:2: {{ without }}"),
        ("{{ (eq .name \"a\" }}", "1.yaml:1: ( without )"),
        ("{{ eq 1 }}", "1.yaml:1: eq with 1 arguments is not supported"),
        ("{{ .list }}", "1.yaml:1: [1]: want toYaml or toJson before it"),
        ("{{ include \"x\" . }}", "1.yaml:1: include: nothing defines \"x\""),
        ("{{ \"open }}", "1.yaml:1: no text: \"open"),
        ("{{ }}", "1.yaml:1: a value is missing"),
    ] {
        assert_eq!(render(&[template], json!({ "name": "web", "list": [1] })), expected, "{template}");
    }
}
