//! Item 8: a broken manifest says where and why, changes nothing, and is forgiven.

use mesh_api::check::{CheckList, Outcome};
use mesh_tests::{
    mesh::{Mesh, Operator, printed},
    story::run,
    wait::{self, SOON},
    world::{World, http_route, split},
};
use std::time::Duration;

const PORT: u16 = 9080;

fn shop() -> World {
    World::new("shop")
        .pod("page", "v1", &[PORT])
        .pod("reviews", "v1", &[PORT])
        .pod("reviews", "v2", &[PORT])
        .service("reviews", PORT)
        .version_service("reviews", "v1", PORT)
        .version_service("reviews", "v2", PORT)
        .file("routes.yaml", &only("reviews-v1"))
}

fn only(backend: &str) -> String {
    http_route("shop", "reviews", PORT, &split(PORT, &[(backend, 1)]))
}

async fn served_by(mesh: &Mesh) -> String {
    mesh.get("page-v1", "reviews:9080/").await.text()
}

async fn becomes(mesh: &Mesh, backend: &str) {
    wait::until(backend, SOON, async || match served_by(mesh).await {
        name if name == backend => Ok(()),
        name => Err(name),
    })
    .await;
}

/// What every place says about the broken file.
async fn complains(mesh: &mut Mesh, words: &[&str]) {
    for word in words {
        mesh.operator.process.says(word, SOON).await;
    }
    let (code, text) = wait::until("`mesh check` to fail", SOON, async || {
        let output = mesh.operator.cli(&["check"]).await;
        match output.status.code() {
            Some(code @ 1..) => Ok((code, printed(&output))),
            code => Err(format!("{code:?} {}", printed(&output))),
        }
    })
    .await;
    assert_eq!(code, 1, "{text}");
    let list: CheckList = mesh.operator.api("/api/v1/checks").await;
    let failing: Vec<_> = list.checks.iter().filter(|check| check.outcome == Outcome::Fail).collect();
    let findings = format!("{failing:?}");
    for word in words {
        assert!(text.contains(word), "`mesh check` does not say {word:?}: {text}");
        assert!(findings.contains(word), "the API does not say {word:?}: {findings}");
    }
}

#[test]
fn yaml_that_cannot_be_read_keeps_the_last_good_world_until_it_is_mended() {
    run(async || {
        let mut mesh = Mesh::start(shop()).await;
        becomes(&mesh, "reviews-v1").await;
        // The second document breaks on its third line, line 6 of the file.
        mesh.edit(
            "routes.yaml",
            "apiVersion: v1\nkind: ConfigMap\n---\napiVersion: v1\nkind: Service\nmetadata: { name: [\n",
        );
        complains(&mut mesh, &["routes.yaml:6", "document 2"]).await;
        wait::always("the last good route", Duration::from_secs(1), async || match served_by(&mesh).await {
            name if name == "reviews-v1" => Ok(()),
            name => Err(name),
        })
        .await;
        mesh.edit("routes.yaml", &only("reviews-v2"));
        becomes(&mesh, "reviews-v2").await;
        passes(&mesh).await;
    });
}

async fn passes(mesh: &Mesh) {
    wait::until("`mesh check` to pass", SOON, async || {
        let output = mesh.operator.cli(&["check"]).await;
        if output.status.success() { Ok(()) } else { Err(printed(&output)) }
    })
    .await;
}

#[test]
fn an_object_of_the_wrong_shape_is_named_with_its_line_its_field_and_what_was_expected() {
    run(async || {
        let mut mesh = Mesh::start(shop()).await;
        becomes(&mesh, "reviews-v1").await;
        let broken = only("reviews-v2").replace("weight: 1", "weight: heavy");
        let line = 1 + broken.lines().position(|line| line.contains("heavy")).unwrap();
        mesh.edit("routes.yaml", &broken);
        let place = format!("routes.yaml:{line}");
        complains(&mut mesh, &[&place, "document 1", "HTTPRoute shop/reviews", "expected", "weight: heavy"])
            .await;
        assert_eq!(served_by(&mesh).await, "reviews-v1");
        mesh.edit("routes.yaml", &only("reviews-v2"));
        becomes(&mesh, "reviews-v2").await;
    });
}

#[test]
fn one_broken_file_does_not_hold_back_another() {
    run(async || {
        let mut mesh = Mesh::start(shop()).await;
        becomes(&mesh, "reviews-v1").await;
        mesh.edit("broken.yaml", "kind: [\n");
        complains(&mut mesh, &["broken.yaml"]).await;
        mesh.edit("routes.yaml", &only("reviews-v2"));
        becomes(&mesh, "reviews-v2").await;
        std::fs::remove_file(mesh.operator.manifests().join("broken.yaml")).unwrap();
        passes(&mesh).await;
    });
}

#[test]
fn an_operator_that_cannot_start_says_why_in_a_sentence() {
    run(async || {
        use mesh_tests::{binaries, process::Start};
        let dir = tempfile::tempdir().unwrap();
        let operator = |manifests: &std::path::Path, state: &std::path::Path| {
            Start::new("operator", binaries::path("mesh-operator"))
                .arg("--manifests")
                .arg(manifests)
                .arg("--state-dir")
                .arg(state)
        };
        let file = dir.path().join("a-file");
        std::fs::write(&file, "").unwrap();
        let blocked = operator(dir.path(), &file.join("state")).output(SOON).await;
        let said = String::from_utf8_lossy(&blocked.stderr).into_owned();
        assert!(!blocked.status.success() && said.contains("a-file"), "{said}");

        let absent = dir.path().join("absent");
        let missing = operator(&absent, &dir.path().join("state")).output(SOON).await;
        let said = String::from_utf8_lossy(&missing.stderr).into_owned();
        assert!(!missing.status.success() && said.contains("absent"), "{said}");

        for taken in [Operator::GRPC, Operator::HTTP] {
            let _listener = std::net::TcpListener::bind(taken).unwrap();
            let refused = operator(dir.path(), &dir.path().join("state")).output(SOON).await;
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(!refused.status.success() && said.contains(&taken.port().to_string()), "{said}");
        }
    });
}
