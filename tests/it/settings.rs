//! Whatever can be set wrongly is refused with its name, all mistakes at once.

use mesh_tests::{
    binaries, client,
    mesh::{Mesh, Operator},
    process::Start,
    story::run,
    wait::SOON,
    world::World,
};

fn stderr(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_proxy_names_every_wrong_setting_at_once_and_exits_64() {
    run(async || {
        let mut start = Start::new("proxy", binaries::path("mesh-proxy"));
        let wrong = [
            ("MESH_PROXY_INBOUND_LISTEN_ADDR", "nowhere"),
            ("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "127.0.0.1:99999"),
            ("MESH_PROXY_TRACE_SAMPLE_RATIO", "2"),
            ("MESH_PROXY_INBOUND_DEFAULT_POLICY", "maybe"),
            ("MESH_PROXY_SHUTDOWN_GRACE_PERIOD", "soon"),
            ("MESH_PROXY_INBOUND_PORTS", "80,http"),
        ];
        for (name, value) in wrong {
            start = start.env(name, value);
        }
        let output = start.output(SOON).await;
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{said}");
        for (name, value) in wrong {
            let line = said.lines().find(|line| line.contains(name));
            assert!(line.is_some_and(|line| line.contains(value)), "{name}={value} is not named:\n{said}");
        }
        // What is missing is named too.
        for name in ["POLICY_WORKLOAD", "IDENTITY_LOCAL_NAME", "IDENTITY_TOKEN_FILE"] {
            assert!(said.contains(name), "{name} is missing and not named:\n{said}");
        }
    });
}

#[test]
fn a_misspelled_setting_is_told_with_the_right_spelling() {
    run(async || {
        let start = Start::new("proxy", binaries::path("mesh-proxy")).env("MESH_PROXY_INBUOND_PORTS", "80");
        let said = stderr(&start.output(SOON).await);
        assert!(said.contains("INBUOND_PORTS") && said.contains("INBOUND_PORTS"), "{said}");
    });
}

#[test]
fn an_operator_names_every_wrong_flag_and_variable_at_once_and_exits_64() {
    run(async || {
        let mut start = Start::new("operator", binaries::path("mesh-operator")).arg("--cluster");
        let wrong = [
            ("MESH_OPERATOR_GRPC_ADDR", "nowhere", "nowhere"),
            ("MESH_OPERATOR_DEFAULT_POLICY", "open", "open"),
            ("MESH_OPERATOR_LEAF_LIFETIM", "24h", "MESH_OPERATOR_LEAF_LIFETIME"),
        ];
        for (name, value, _) in wrong {
            start = start.env(name, value);
        }
        // What Kubernetes says of our own Service is nobody's mistake.
        start = start.env("MESH_OPERATOR_SERVICE_PORT_GRPC", "8086");
        let output =
            start.args(["--otlp-forwad", "http://collector", "--http-addr", "80"]).output(SOON).await;
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{said}");
        let flags = [("--otlp-forwad", "--otlp-forward"), ("--http-addr", "80")];
        for (name, told) in wrong.map(|(name, _, told)| (name, told)).into_iter().chain(flags) {
            let line = said.lines().find(|line| line.contains(name));
            assert!(line.is_some_and(|line| line.contains(told)), "{name}: {said}");
        }
        assert_eq!(said.lines().count(), wrong.len() + flags.len(), "{said}");
        // What it says to do can be done.
        let help =
            Start::new("operator", binaries::path("mesh-operator")).arg("--help").env(wrong[2].0, "24h");
        let help = help.output(SOON).await;
        assert!(help.status.success() && stderr(&help).contains("--leaf-lifetime"), "{}", stderr(&help));
    });
}

#[test]
fn wrong_flags_of_the_operator_and_the_command_line_are_named() {
    run(async || {
        for (program, args, named) in [
            ("mesh-operator", vec!["--grpc-addr", "nowhere"], "--grpc-addr"),
            ("mesh-operator", vec!["--leaf-lifetime", "soon"], "--leaf-lifetime"),
            ("mesh-operator", vec!["--default-policy", "maybe"], "--default-policy"),
            ("mesh-operator", vec!["--no-such-flag"], "--no-such-flag"),
            ("mesh", vec!["stat", "--window", "2h"], "--window"),
            ("mesh", vec!["demo", "--rps", "0"], "--rps"),
            ("mesh", vec!["--operator", "not a url", "stat"], "operator"),
            ("mesh", vec!["frobnicate"], "frobnicate"),
        ] {
            let output = Start::new(program, binaries::path(program)).args(&args).output(SOON).await;
            let said = stderr(&output);
            assert!(!output.status.success() && said.contains(named), "{program} {args:?}: {said}");
        }
        let away = Start::new("mesh", binaries::path("mesh")).args(["stat"]).output(SOON).await;
        let said = stderr(&away);
        assert!(!away.status.success() && said.contains("127.0.0.1:8084"), "{said}");
    });
}

#[test]
fn wrong_parameters_of_the_api_are_400_with_their_name_and_unknown_things_404() {
    run(async || {
        let mesh = Mesh::start(World::new("demo").pod("web", "v1", &[80]).service("web", 80)).await;
        for (path, status, named) in [
            ("/api/v1/graph?window=2h", 400, "window"),
            ("/api/v1/series?of=nonsense", 400, "of"),
            ("/api/v1/traces?limit=-1", 400, "limit"),
            ("/api/v1/traces?min_ms=x", 400, "min_ms"),
            ("/api/v1/traces/xyz", 400, "xyz"),
            ("/api/v1/traces/00000000000000000000000000000001", 404, "trace"),
            ("/api/v1/workloads/demo/absent", 404, "absent"),
            ("/api/v1/authz?to=demo/absent", 404, "absent"),
            ("/api/v1/authz", 400, "to"),
            ("/api/v1/policy?outbound=web", 400, "from"),
            ("/api/v1/nothing", 404, ""),
        ] {
            let answer = client::get(Operator::HTTP, path).await.unwrap();
            let body = String::from_utf8_lossy(answer.body()).into_owned();
            assert!(answer.status() == status && body.contains(named), "{path}: {} {body}", answer.status());
            let error: mesh_api::stream::ApiError =
                serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}"));
            assert!(!error.error.is_empty());
        }
        // Another site's page must not read this one through a name that it controls.
        let mut request = client::to("/api/v1/overview");
        request.headers_mut().insert("host", "evil.example".parse().unwrap());
        let status = client::send(Operator::HTTP, request).await.unwrap().status;
        assert!(status == 403 || status == 400, "{status}");
        drop(mesh);
    });
}
