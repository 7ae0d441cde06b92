//! What the commands for a cluster do to it, and what they leave alone.

#![allow(clippy::unwrap_used)] // A test that cannot go on should say so at once.

mod api_server;

use api_server::ApiServer;
use assert_cmd::Command;
use mesh_api::check::{Check, CheckList, Outcome};
use serde_json::{Value, json};
use std::time::Duration;

struct Said {
    out: String,
    err: String,
    ok: bool,
}

fn mesh(server: &ApiServer, args: &[&str]) -> Said {
    // Named, so that no `mesh demo` of this machine is asked.
    said(program().args(args).arg("--kubeconfig").arg(server.kubeconfig()))
}

fn program() -> Command {
    let mut mesh = Command::new(assert_cmd::cargo::cargo_bin!("mesh"));
    mesh.env_remove("MESH_OPERATOR").env_remove("MESH_NAMESPACE");
    mesh
}

fn said(mesh: &mut Command) -> Said {
    let output = mesh.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    Said { out, err, ok: output.status.success() }
}

fn done(server: &ApiServer, args: &[&str]) -> String {
    let said = mesh(server, args);
    assert!(said.ok, "mesh {}: {}{}", args.join(" "), said.out, said.err);
    said.out
}

fn object(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Value {
    json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name, "namespace": namespace } })
}

/// Of others, who call it as we do.
fn others() -> Vec<Value> {
    let mut all = vec![
        object("v1", "Namespace", None, "linked"),
        object("apps/v1", "Deployment", Some("linked"), "mesh-web"),
        object("v1", "Service", Some("mesh-system"), "mesh-web"),
        object("rbac.authorization.k8s.io/v1", "ClusterRole", None, "mesh-reader"),
    ];
    for object in &mut all {
        object["metadata"]["labels"] =
            json!({ "app.kubernetes.io/name": "mesh", "app.kubernetes.io/part-of": "mesh" });
    }
    all
}

/// With a mesh, installed as a user does it.
fn installed(flags: &[&str]) -> ApiServer {
    let server = ApiServer::with(&others());
    done(&server, &[&["install", "--apply"], flags].concat());
    server
}

fn operator(namespace: &str) -> Value {
    object("apps/v1", "Deployment", Some(namespace), "mesh-operator")
}

#[test]
fn uninstall_deletes_the_mesh_and_nothing_that_is_only_called_so() {
    let server = installed(&["-n", "net"]);
    let printed = done(&server, &["uninstall"]);
    assert!(printed.contains("  name: mesh-operator\n  namespace: net\n"), "{printed}");
    assert!(printed.contains("kind: Namespace\nmetadata:\n  name: net\n"), "{printed}");
    for word in ["linked", "mesh-web", "mesh-reader", "mesh-system"] {
        assert!(!printed.contains(word), "{word}: {printed}");
    }
    done(&server, &["uninstall", "--apply"]);
    assert!(!server.has(&operator("net")) && !server.has(&object("v1", "Namespace", None, "net")));
    assert!(others().iter().all(|object| server.has(object)));
    assert!(mesh(&server, &["uninstall"]).err.contains("there is no mesh on this cluster"));
}

#[test]
fn what_is_printed_for_kubectl_has_nothing_that_goes_with_its_owner() {
    let mut anchors = object("v1", "ConfigMap", Some("shop"), "mesh-trust-anchors");
    anchors["metadata"]["labels"] = json!({ "app.kubernetes.io/part-of": "mesh" });
    anchors["metadata"]["ownerReferences"] = json!([{ "kind": "ClusterRole", "name": "mesh-operator" }]);
    let server = ApiServer::with(std::slice::from_ref(&anchors));
    done(&server, &["install", "--apply"]);
    let printed = done(&server, &["uninstall"]);
    assert!(printed.contains("kind: ClusterRole\n") && !printed.contains("mesh-trust-anchors"), "{printed}");
    done(&server, &["uninstall", "--apply"]);
    assert!(!server.has(&anchors), "by itself it leaves nothing to others");
}

#[test]
fn a_namespace_that_was_there_before_the_mesh_stays() {
    let server = ApiServer::with(&[object("v1", "Namespace", None, "mesh-system")]);
    done(&server, &["install", "--apply"]);
    done(&server, &["uninstall", "--apply"]);
    assert!(server.has(&object("v1", "Namespace", None, "mesh-system")));
    assert!(!server.has(&operator("mesh-system")));
}

#[test]
fn a_namespace_in_which_others_have_something_stays() {
    let server = installed(&[]);
    let said = mesh(&server, &["uninstall", "--apply"]);
    assert!(said.ok, "{}", said.err);
    assert!(
        said.err.contains("Namespace mesh-system stays: Service mesh-system/mesh-web is none of the mesh's"),
        "{}",
        said.err
    );
    assert!(
        server.has(&object("v1", "Namespace", None, "mesh-system")) && !server.has(&operator("mesh-system"))
    );
}

#[test]
fn upgrade_prunes_what_the_chart_had_and_nothing_that_is_only_called_so() {
    let server = installed(&["--ha"]);
    let budget = object("policy/v1", "PodDisruptionBudget", Some("mesh-system"), "mesh-operator");
    assert!(server.has(&budget));
    let said = done(&server, &["upgrade", "--apply", "--set", "ha=false"]);
    assert!(said.contains("PodDisruptionBudget mesh-system/mesh-operator deleted"), "{said}");
    assert!(!server.has(&budget) && server.has(&operator("mesh-system")));
    assert!(others().iter().all(|object| server.has(object)));
}

#[test]
fn the_namespace_of_the_mesh_can_be_named_once_for_all_commands() {
    let named = ["--mesh-namespace", "net"];
    let server = ApiServer::with(&[]);
    done(&server, &[&["install", "--apply"], &named[..]].concat());
    assert!(server.has(&operator("net")) && !server.has(&operator("mesh-system")));
    let upgraded = done(&server, &[&["upgrade"], &named[..]].concat());
    assert!(upgraded.contains("namespace: net\n") && !upgraded.contains("namespace: mesh-system\n"));
    let pod = "kind: Pod\nmetadata: { name: web }\nspec: { containers: [{ name: web }] }\n";
    let injected = said(program().args(["inject", "-"]).args(named).write_stdin(pod)).out;
    assert!(injected.contains(".net.svc.") && !injected.contains("mesh-system"), "{injected}");
}

#[test]
fn a_second_mesh_is_refused() {
    let server = installed(&["-n", "net"]);
    let refused = |args: &[&str]| {
        let said = mesh(&server, args);
        assert!(!said.ok, "{}", said.out);
        said.err
    };
    let said = refused(&["install", "--apply"]);
    assert!(said.contains("belongs to the mesh in namespace net"), "{said}");
    assert!(said.contains("mesh upgrade -n net"), "{said}");
    assert!(!server.has(&operator("mesh-system")), "nothing was made before it was refused");
    let said = refused(&["upgrade"]);
    assert!(said.contains("this cluster's is in net, name that with -n net"), "{said}");
    let said = refused(&["uninstall", "--mesh-namespace", "mesh-system"]);
    assert!(said.contains("there is one in net"), "{said}");
}

#[test]
fn what_is_somebody_elses_is_not_overwritten() {
    let role = object("rbac.authorization.k8s.io/v1", "ClusterRole", None, "mesh-view");
    let server = ApiServer::with(std::slice::from_ref(&role));
    let said = mesh(&server, &["install", "--apply"]);
    assert!(!said.ok && said.err.contains("ClusterRole mesh-view is there already"), "{}", said.err);
    assert_eq!(server.get(&role), Some(role));
}

#[test]
fn a_cluster_is_checked_for_what_would_be_installed() {
    let budget = object("policy/v1", "PodDisruptionBudget", Some("mesh-system"), "mesh-operator");
    let service = object("v1", "Service", Some("net"), "mesh-operator");
    let namespace = object("v1", "Namespace", None, "net");
    let server = ApiServer::with(&[budget, service, namespace]);
    assert!(done(&server, &["check", "--pre"]).contains("no mesh is there yet"));
    let refused = |args: &[&str]| {
        let said = mesh(&server, &[&["check", "--pre"], args].concat());
        assert!(!said.ok, "{args:?}: {}", said.out);
        said.out
    };
    for high_availability in [&["--ha"][..], &["--set", "ha=true"]] {
        let said = refused(high_availability);
        assert!(said.contains("PodDisruptionBudget mesh-system/mesh-operator is there"), "{said}");
    }
    for elsewhere in [["-n", "net"], ["--mesh-namespace", "net"]] {
        let said = refused(&elsewhere);
        assert!(said.contains("Service net/mesh-operator is there") && !said.contains("Namespace"), "{said}");
    }
    let wrong = mesh(&server, &["check", "--pre", "--set", "proxy.cores=many"]);
    assert!(!wrong.ok && wrong.err.contains("proxy.cores"), "{}", wrong.err);
    let misplaced = mesh(&server, &["check", "--ha"]);
    assert!(!misplaced.ok && misplaced.err.contains("--pre"), "{}", misplaced.err);
}

#[test]
fn who_deletes_with_kubectl_is_told_of_the_label_that_stays() {
    let server = installed(&[]);
    assert_eq!(mesh(&server, &["uninstall"]).err.matches("label").count(), 0);
    let mut shop = object("v1", "Namespace", None, "shop");
    shop["metadata"]["labels"] = json!({ "mesh.dev/inject-webhook": "enabled" });
    let server = ApiServer::with(&[shop]);
    done(&server, &["install", "--apply"]);
    let said = mesh(&server, &["uninstall"]);
    let command = "kubectl label namespace -l mesh.dev/inject-webhook mesh.dev/inject-webhook-";
    assert!(said.ok && said.err.contains("shop") && said.err.contains(command), "{}", said.err);
    assert!(!said.out.contains("shop"), "{}", said.out);
}

#[test]
fn who_installs_is_told_which_images_the_nodes_will_want() {
    let server = ApiServer::with(&[]);
    let said = mesh(&server, &["install"]).err;
    assert!(said.contains("mesh-operator:") && said.contains("--set images.registry"), "{said}");
    let registry = "images.registry=registry.example.com/mesh/,images.tag=1.2.3";
    let said = mesh(&server, &["install", "--set", registry]).err;
    let images =
        "registry.example.com/mesh/mesh-operator:1.2.3 and registry.example.com/mesh/mesh-proxy:1.2.3";
    assert_eq!(said, format!("images: {images}\n"));
    assert!(mesh(&server, &["install", "--apply"]).ok);
    assert!(mesh(&server, &["upgrade", "--set", registry]).err.contains(images));
}

/// What `mesh check -o json` says and whether it succeeded: an exit code is part of what it says.
fn checked(server: &ApiServer, args: &[&str]) -> Vec<Check> {
    let said = mesh(server, &[&["check", "-o", "json", "--wait", "0"], args].concat());
    let list: CheckList =
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}{}", said.out, said.err));
    let fails = list.checks.iter().any(|check| check.outcome == Outcome::Fail);
    assert_eq!(said.ok, !fails, "{}", said.out);
    list.checks
}

#[track_caller]
fn find<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name:?}: {checks:#?}"))
}

#[track_caller]
fn fails(checks: &[Check], name: &str, finding: &str, remedy: &str) {
    let check = find(checks, name);
    assert_eq!(check.outcome, Outcome::Fail, "{check:?}");
    assert!(check.findings.iter().any(|found| found.contains(finding)), "{check:?}");
    assert!(check.remedy.contains(remedy), "{check:?}");
}

/// Bringing an issuer, `helm --create-namespace` and GitOps all make the namespace first.
#[test]
fn a_cluster_that_has_the_namespace_and_an_issuer_in_it_is_ready_for_a_mesh() {
    let server = ApiServer::with(&[
        object("v1", "Namespace", None, "mesh-system"),
        object("v1", "Secret", Some("mesh-system"), "mesh-issuer"),
    ]);
    let checks = checked(&server, &["--pre"]);
    assert!(checks.len() > 5 && checks.iter().all(|check| check.outcome == Outcome::Pass), "{checks:#?}");
}

#[test]
fn a_cluster_that_has_a_mesh_wants_an_upgrade() {
    let checks = checked(&installed(&["-n", "net"]), &["--pre"]);
    fails(&checks, "no mesh is there yet", "a mesh is installed in namespace net", "mesh upgrade -n net");
    assert_eq!(find(&checks, "no name of the mesh is somebody else's").outcome, Outcome::Pass);
}

#[test]
fn a_cluster_that_cannot_take_a_mesh_says_why() {
    let server = ApiServer::with(&[object("rbac.authorization.k8s.io/v1", "ClusterRole", None, "mesh-view")]);
    server.change(|state| {
        state.minor = 27;
        state.forbidden.insert("customresourcedefinitions".into());
    });
    let checks = checked(&server, &["--pre"]);
    fails(&checks, "Kubernetes is new enough", "the API server is v1.27.0", "1.28");
    fails(
        &checks,
        "no name of the mesh is somebody else's",
        "ClusterRole mesh-view is there",
        "another name",
    );
    let may = "you may create what the mesh is made of";
    fails(
        &checks,
        may,
        "not allowed: CustomResourceDefinition authorizationpolicies.mesh.dev",
        "administrator",
    );
    server.change(|state| {
        state.minor = 28;
        state.ahead = Duration::from_secs(60);
    });
    let checks = checked(&server, &["--pre"]);
    assert_eq!(find(&checks, "Kubernetes is new enough").outcome, Outcome::Warn);
    assert_eq!(find(&checks, "no clock skew").outcome, Outcome::Warn);
}

/// As while a cluster is being upgraded.
#[test]
fn nodes_that_are_behind_their_api_server_are_named() {
    let node = |name: &str, version: &str| {
        let mut node = object("v1", "Node", None, name);
        node["status"] = json!({ "nodeInfo": {
            "kubeletVersion": version, "architecture": "", "bootID": "", "containerRuntimeVersion": "",
            "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "", "osImage": "",
            "systemUUID": "",
        } });
        node
    };
    let server = ApiServer::with(&[node("new", "v1.29.1"), node("old", "v1.28.15-eks-1a2b3c")]);
    let checks = checked(&server, &["--pre"]);
    let found = find(&checks, "Kubernetes is new enough");
    assert_eq!(found.outcome, Outcome::Warn);
    assert_eq!(found.findings, ["node old is v1.28.15-eks-1a2b3c"]);
    assert!(found.remedy.contains("restart the operator"), "{found:?}");
}

#[test]
fn an_api_server_that_answers_nothing_is_the_only_finding() {
    let server = ApiServer::with(&[]);
    server.change(|state| state.refuses = true);
    for args in [&["--pre"][..], &[]] {
        let checks = checked(&server, args);
        assert_eq!(checks.len(), 1, "{checks:#?}");
        fails(&checks, "can query the Kubernetes API", "the API server says: who are you", "kubeconfig");
    }
}

#[test]
fn a_mesh_that_does_not_work_says_what_is_broken() {
    let mut pod = object("v1", "Pod", Some("mesh-system"), "mesh-operator-1");
    pod["metadata"]["labels"] =
        json!({ "app.kubernetes.io/name": "mesh", "app.kubernetes.io/component": "operator" });
    pod["status"] = json!({ "containerStatuses": [{
        "name": "operator", "image": "mesh-operator:0.1.0", "imageID": "", "restartCount": 0, "ready": false,
        "state": { "waiting": { "reason": "ErrImagePull", "message": "not found" } },
    }] });
    let server = ApiServer::with(&[pod]);
    done(&server, &["install", "--apply"]);
    server.change(|state| {
        state.injected = json!({});
        state.forget("/services/mesh-telemetry");
    });
    let checks = checked(&server, &[]);
    let ready = "the operator's Pods are ready";
    fails(&checks, ready, "ErrImagePull of mesh-operator:0.1.0: not found", "images.registry");
    fails(
        &checks,
        "the operator answers",
        "is not ready",
        "kubectl logs -n mesh-system deploy/mesh-operator",
    );
    fails(&checks, "a new Pod that asks for a proxy gets one", "without asking the operator", "port 8443");
    let made = find(&checks, "everything that the mesh is made of is there");
    assert_eq!(made.findings, ["Service mesh-system/mesh-telemetry is missing"]);
    assert!(made.outcome == Outcome::Warn && made.remedy.contains("mesh upgrade --apply"), "{made:?}");
}

/// With `webhook.failurePolicy=Fail`: the API server makes no Pod, and says which webhook it was.
#[test]
fn a_webhook_that_nobody_answers_fails_the_check() {
    let server = installed(&["--set", "webhook.failurePolicy=Fail"]);
    let name = "a new Pod that asks for a proxy gets one";
    let unanswered = |webhook: &str| {
        let why = format!(
            "Internal error occurred: failed calling webhook \"{webhook}\": failed to call webhook: Post \
             \"https://mesh-operator.mesh-system.svc:8443/inject/pod?timeout=5s\": context deadline exceeded"
        );
        server.change(|state| state.unanswered = Some(why));
        checked(&server, &[])
    };
    fails(&unanswered("pod.inject.mesh.dev"), name, "context deadline exceeded", "port 8443");
    assert_eq!(find(&unanswered("mutate.example.com"), name).outcome, Outcome::Warn);
}

#[test]
fn a_cluster_behind_a_proxy_is_reached_by_the_kubeconfigs_or_the_environments() {
    let server = ApiServer::with(&[]);
    let asked = || server.change(|state| std::mem::take(&mut state.tunnels));
    server.is_reached_by(json!({ "server": "http://api.invalid:6443", "proxy-url": server.url }));
    checked(&server, &["--pre"]);
    assert!(asked().iter().any(|target| target == "api.invalid:6443"));

    server.is_reached_by(json!({ "server": "http://api.invalid:6443" }));
    let check = |no_proxy: &str| {
        let mut mesh = program();
        mesh.env("HTTP_PROXY", &server.url).env("NO_PROXY", no_proxy);
        said(mesh.args(["check", "--pre", "--kubeconfig"]).arg(server.kubeconfig()))
    };
    assert!(check("other.invalid").ok && !asked().is_empty());
    assert!(!check(".invalid").ok && asked().is_empty());
}

#[test]
fn of_several_kubeconfigs_those_that_are_there_count() {
    let server = ApiServer::with(&[]);
    let check = |first: &str| {
        let files = std::env::join_paths([first.as_ref(), server.kubeconfig().as_os_str()]).unwrap();
        said(program().args(["check", "--pre"]).env("KUBECONFIG", files))
    };
    let found = check("/nowhere/config");
    assert!(found.ok, "{}", found.err);
    let nowhere = said(program().args(["check", "--pre"]).env("KUBECONFIG", "/nowhere/config"));
    assert!(!nowhere.ok && nowhere.err.contains("no cluster is configured"), "{}", nowhere.err);
    let named =
        said(program().args(["check", "--pre", "--context", "c"]).env("KUBECONFIG", "/nowhere/config"));
    assert!(!named.ok && named.err.contains("there is no kubeconfig"), "{}", named.err);
}

#[test]
fn an_older_program_leaves_out_what_a_later_one_has_kept() {
    let server = installed(&[]);
    let mut kept = server.get(&object("v1", "ConfigMap", Some("mesh-system"), "mesh-values")).unwrap();
    let mut values: Value = serde_json::from_str(kept["data"]["values.yaml"].as_str().unwrap()).unwrap();
    values["proxy"]["warmth"] = 3.into();
    kept["data"]["values.yaml"] = values.to_string().into();
    let server = ApiServer::with(&[kept]);
    let upgraded = mesh(&server, &["upgrade", "--set", "ha=true"]);
    assert!(upgraded.ok && upgraded.out.contains("kind: PodDisruptionBudget"), "{}", upgraded.err);
    assert!(
        !upgraded.out.contains("warmth") && upgraded.err.contains("proxy.warmth is left out"),
        "{}",
        upgraded.err
    );
    assert!(!mesh(&server, &["upgrade", "--set", "proxy.warmth=4"]).ok, "who gives it now is told");
}
