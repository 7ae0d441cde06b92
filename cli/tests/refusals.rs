//! What goes wrong is said in one sentence, with the remedy, and the exit code is not 0.

#![allow(clippy::unwrap_used)] // A test that cannot go on should say so at once.

use assert_cmd::Command;
use std::{fs, net::TcpListener, path::Path, process::Stdio};
use tempfile::TempDir;

/// Tests run in their package's folder.
const MANIFESTS: &str = "../demo/manifests";

fn mesh() -> Command {
    let mut mesh = Command::new(assert_cmd::cargo::cargo_bin!("mesh"));
    mesh.env_remove("MESH_OPERATOR");
    mesh
}

/// Runs to its end, which must be a failure; returns what it said.
fn refused(mesh: &mut Command) -> String {
    let output = mesh.output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.trim_end().lines().count(), 1, "one sentence: {said}");
    said
}

fn demo(state: &Path) -> Command {
    let mut demo = mesh();
    demo.args(["demo", "--manifests", MANIFESTS, "--state-dir"]).arg(state);
    demo
}

#[test]
fn a_taken_port() {
    let (state, holder) = (TempDir::new().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let addr = holder.local_addr().unwrap().to_string();
    let said = refused(demo(state.path()).args(["--dashboard-addr", &addr]));
    assert!(said.contains(&format!("{addr} (for the dashboard) is taken")), "{said}");
    assert!(said.contains("--dashboard-addr"), "{said}");
}

#[test]
fn a_state_folder_that_cannot_be_written() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let said = refused(&mut demo(&file.join("state")));
    assert!(said.contains("not writable (choose another with --state-dir)"), "{said}");
}

#[test]
fn manifests_that_are_not_there() {
    let said = refused(mesh().args(["demo", "--manifests", "/nowhere"]));
    assert!(said.contains("manifests folder /nowhere (name another with --manifests)"), "{said}");
}

#[test]
fn programs_that_were_not_built() {
    let dir = TempDir::new().unwrap();
    let lonely = dir.path().join("mesh");
    // By another process: a child that another test starts while we write would hold the file open, and nothing could run it.
    Command::new("cp").arg(assert_cmd::cargo::cargo_bin!("mesh")).arg(&lonely).assert().success();
    // One Pod at an address that nothing else uses, and ports that the system has just had free.
    let manifests = dir.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let pod = "kind: Pod\nmetadata: { name: a, namespace: n }\nspec: { containers: [{ image: mesh-demo, args: [details] }] }\n\
               status: { podIP: 127.0.1.200 }\n";
    fs::write(manifests.join("pod.yaml"), pod).unwrap();
    let addr = |listener: TcpListener| listener.local_addr().unwrap().to_string();
    let free = || addr(TcpListener::bind("127.0.0.1:0").unwrap());
    let mut mesh = Command::new(lonely);
    mesh.arg("demo").arg("--manifests").arg(&manifests).arg("--state-dir").arg(dir.path().join("state"));
    let said = refused(mesh.args(["--dashboard-addr", &free(), "--grpc-addr", &free()]));
    assert!(
        said.contains("mesh-operator does not exist: build it with `cargo build -p mesh-operator`"),
        "{said}"
    );
}

/// `/dev/full` is a disk that is. Who reads no further has asked for no more.
#[test]
fn what_cannot_be_written_is_a_failure_unless_its_reader_has_gone() {
    let install = |out: Stdio| {
        let mut mesh = std::process::Command::new(assert_cmd::cargo::cargo_bin!("mesh"));
        mesh.args(["install", "--set", "images.registry=r/"])
            .stdout(out)
            .stderr(Stdio::piped())
            .output()
            .unwrap()
    };
    let full = install(fs::File::options().write(true).open("/dev/full").unwrap().into());
    let said = String::from_utf8(full.stderr).unwrap();
    assert!(!full.status.success() && said.contains("writing to standard output"), "{said}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(install(writer.into()).status.success());
}

#[test]
fn no_operator() {
    let said = refused(mesh().args(["stat", "--operator", "http://127.0.0.1:9"]));
    assert!(said.contains("no operator at http://127.0.0.1:9"), "{said}");
    assert!(said.contains("is `mesh demo` running?"), "{said}");
}

#[test]
fn a_workload_without_a_namespace() {
    let said = refused(mesh().args(["stat", "reviews-v1", "--operator", "http://127.0.0.1:9"]));
    assert!(
        said.contains("workload \"reviews-v1\": want namespace/name, or its namespace with -n"),
        "{said}"
    );
}

#[test]
fn a_cluster_that_is_not_there() {
    let dir = TempDir::new().unwrap();
    let kubeconfig = dir.path().join("config");
    let config = "clusters: [{ name: far, cluster: { server: 'http://127.0.0.1:9' } }]\n\
                  contexts: [{ name: away, context: { cluster: far, user: me } }]\n\
                  users: [{ name: me, user: { token: t } }]\n\
                  current-context: away\n";
    fs::write(&kubeconfig, config).unwrap();
    let file = kubeconfig.to_str().unwrap();
    let said = refused(mesh().args(["stat", "--kubeconfig", file]));
    assert!(said.contains("the operator in namespace mesh-system of http://127.0.0.1:9/"), "{said}");
    assert!(said.contains("cannot ask the API server"), "{said}");
    let said = refused(mesh().args(["stat", "--kubeconfig", file, "--context", "home"]));
    assert!(said.contains("home"), "{said}");
}

#[test]
fn a_plugin_of_kubectl_is_called_as_one() {
    let dir = TempDir::new().unwrap();
    let plugin = dir.path().join("kubectl-mesh");
    std::os::unix::fs::symlink(assert_cmd::cargo::cargo_bin!("mesh"), &plugin).unwrap();
    let output = Command::new(plugin).args(["stat", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("Usage: kubectl mesh stat"), "{help}");
}
