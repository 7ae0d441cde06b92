//! Item 10: client libraries that others wrote, through the mesh, each knowing of it no more than `http_proxy`.

use mesh_tests::{
    mesh::{Mesh, printed},
    process::Start,
    stock,
    story::run,
    world::World,
};
use std::{path::Path, time::Duration};

const PORT: u16 = 8080;
/// Interpreters start slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn mesh() -> Mesh {
    let mesh =
        Mesh::start(World::new("demo").pod("app", "v1", &[]).pod("web", "v1", &[PORT]).service("web", PORT))
            .await;
    mesh.answers("app-v1", "web:8080/", 200).await;
    mesh
}

/// A program of `clients/`, with the app's proxy as `http_proxy`. Returns what it printed.
async fn client(mesh: &Mesh, interpreter: &Path, program: &str, args: &[&str]) -> String {
    let proxy = format!("http://{}", mesh.proxy("app-v1").pod.outbound());
    let start = Start::new(program, interpreter).arg(stock::clients().join(program)).args(args);
    let output = start.env("http_proxy", &proxy).env("no_proxy", "").output(PATIENCE).await;
    assert!(
        output.status.success(),
        "{program}: {}{}",
        printed(&output),
        String::from_utf8_lossy(&output.stderr)
    );
    printed(&output)
}

fn outbound(mesh: &Mesh) -> String {
    mesh.proxy("app-v1").pod.outbound().to_string()
}

/// Everything came through the mesh: the application saw who called.
fn through_the_mesh(mesh: &Mesh, text: &str) {
    let identity = mesh.proxy("app-v1").pod.identity();
    let seen = mesh.origin("web-v1").seen();
    let strangers: Vec<_> = seen.iter().filter(|seen| seen.header("l5d-client-id") != identity).collect();
    assert!(!seen.is_empty() && strangers.is_empty(), "{text}{strangers:?}");
}

#[test]
fn python_requests() {
    let python = stock::python();
    run(async move || {
        let mesh = mesh().await;
        let text = client(&mesh, &python, "requests_client.py", &[]).await;
        let expected =
            "get 200\nget 200\nget 200\npost 200 100000\nchunked True\nhead 6\nstream 3000000\nmissing 404\n";
        assert_eq!(text, expected);
        through_the_mesh(&mesh, &text);
    });
}

#[test]
fn python_grpcio_by_tunnel_and_by_authority() {
    let python = stock::python();
    run(async move || {
        let mesh = mesh().await;
        for how in ["tunnel", "authority"] {
            let text = client(&mesh, &python, "grpcio_client.py", &[how, &outbound(&mesh)]).await;
            assert_eq!(
                text, "unary b'hello'\nlarge 314159\nstream b'a,b,c'\nmissing UNIMPLEMENTED\n",
                "{how}"
            );
            through_the_mesh(&mesh, &text);
        }
    });
}

#[test]
fn node_http_and_fetch() {
    let modules = stock::node();
    run(async move || {
        let mesh = mesh().await;
        let modules = modules.display().to_string();
        let text = client(&mesh, Path::new("node"), "fetch_client.mjs", &[&outbound(&mesh), &modules]).await;
        assert_eq!(text, "http 200\npost 100000\nfetch 200 fetched\nstream 3000000\n");
        through_the_mesh(&mesh, &text);
    });
}

#[test]
fn node_grpc_js_by_tunnel_and_by_authority() {
    let modules = stock::node();
    run(async move || {
        let mesh = mesh().await;
        let modules = modules.display().to_string();
        for how in ["tunnel", "authority"] {
            let text =
                client(&mesh, Path::new("node"), "grpc_js_client.js", &[how, &outbound(&mesh), &modules])
                    .await;
            assert_eq!(text, "unary hello\nstream a,b,c\n", "{how}");
            through_the_mesh(&mesh, &text);
        }
    });
}
