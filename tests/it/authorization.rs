//! Item 5: who may call whom, who says so, and audit.

use mesh_api::{
    authz::{AuthzList, Verdict},
    workload::Workload,
};
use mesh_tests::{
    client,
    mesh::{Mesh, printed},
    story::{run, run_alone},
    wait::{self, SOON},
    world::World,
};
use std::time::{Duration, Instant};

const PORT: u16 = 9080;

fn shop() -> World {
    World::new("shop")
        .default_policy("mesh-only")
        .pod("page", "v1", &[PORT])
        .pod("reviews", "v1", &[PORT])
        .pod("ratings", "v1", &[PORT])
        .service("page", PORT)
        .service("reviews", PORT)
        .service("ratings", PORT)
}

/// Only reviews may call ratings.
fn policy(mode: &str) -> String {
    format!(
        "apiVersion: mesh.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{ name: ratings-viewer, namespace: shop }}\n\
         spec:\n  mode: {mode}\n  targetRefs:\n  - {{ group: \"\", kind: Service, name: ratings }}\n  rules:\n  - from:\n    - serviceAccount: {{ name: reviews }}\n"
    )
}

#[test]
fn reviews_may_call_ratings_and_the_page_may_not() {
    run(async || {
        let mesh = Mesh::start(shop().file("policies.yaml", &policy("enforce"))).await;
        mesh.answers("reviews-v1", "ratings:9080/", 200).await;
        mesh.answers("page-v1", "ratings:9080/", 403).await;
        let reached = mesh.origin("ratings-v1").count();
        let reply = mesh.get("page-v1", "ratings:9080/").await.is(403);
        assert_ne!(reply.header("l5d-proxy-error"), "");
        assert_eq!(mesh.origin("ratings-v1").count(), reached, "a denied request reached the application");
        mesh.get("page-v1", "reviews:9080/").await.is(200);
        // Nor may anybody without a certificate, however it gets there.
        assert_eq!(client::get(mesh.proxy("ratings-v1").pod.port(PORT), "/").await.unwrap().status(), 403);
    });
}

#[test]
fn a_namespace_or_a_single_route_can_be_let_in() {
    run(async || {
        let policy = |from: &str| {
            format!(
                "apiVersion: mesh.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{ name: ratings-viewer, namespace: shop }}\n\
                 spec:\n  targetRefs:\n  - {{ group: \"\", kind: Service, name: ratings }}\n  rules:\n  - from:\n    - {from}\n"
            )
        };
        // A Service with routes has no others: what is not to be read is a route of its own.
        let routes = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: ratings-rest, namespace: shop }\n\
                      spec:\n  parentRefs:\n  - { group: \"\", kind: Service, name: ratings, port: 9080 }\n  rules:\n  - {}\n---\n\
                      apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: ratings-read, namespace: shop }\n\
                    spec:\n  parentRefs:\n  - { group: \"\", kind: Service, name: ratings, port: 9080 }\n  rules:\n  - matches:\n    - path: { type: PathPrefix, value: /read }\n      method: GET\n";
        let elsewhere = policy("namespace: { name: elsewhere }");
        let mesh = Mesh::start(shop().file("policies.yaml", &elsewhere).file("routes.yaml", routes)).await;
        mesh.answers("page-v1", "ratings:9080/read/1", 403).await;
        mesh.edit("policies.yaml", &policy("namespace: { name: shop }"));
        mesh.answers("page-v1", "ratings:9080/read/1", 200).await;
        mesh.answers("page-v1", "ratings:9080/other", 200).await;

        let route = "    routes:\n    - { kind: HTTPRoute, name: ratings-read }\n";
        mesh.edit("policies.yaml", &(policy("serviceAccount: { name: page }") + route));
        mesh.answers("page-v1", "ratings:9080/other", 403).await;
        mesh.get("page-v1", "ratings:9080/read/1").await.is(200);
        mesh.get("reviews-v1", "ratings:9080/read/1").await.is(403);
        let mut post = client::to("http://ratings:9080/read/1");
        *post.method_mut() = http::Method::POST;
        mesh.send("page-v1", post).await.is(403);
    });
}

#[test]
fn the_command_line_names_the_policy_that_denies() {
    run(async || {
        let mesh = Mesh::start(shop().file("policies.yaml", &policy("enforce"))).await;
        let denied = mesh.operator.cli(&["authz", "shop/ratings-v1", "--from", "shop/page-v1"]).await;
        let text = printed(&denied);
        assert!(text.to_lowercase().contains("denied") && text.contains("ratings-viewer"), "{text}");
        let allowed =
            printed(&mesh.operator.cli(&["authz", "shop/ratings-v1", "--from", "shop/reviews-v1"]).await);
        assert!(
            allowed.to_lowercase().contains("allowed") && allowed.contains("ratings-viewer"),
            "{allowed}"
        );
        let list: AuthzList = mesh.operator.api("/api/v1/authz?to=shop/ratings-v1&from=shop/page-v1").await;
        assert!(list.rows.iter().all(|row| row.verdict == Verdict::Denied && row.why.len() > 10), "{list:?}");
        let unknown = mesh.operator.cli(&["authz", "shop/absent"]).await;
        assert!(
            !unknown.status.success() && String::from_utf8_lossy(&unknown.stderr).contains("shop/absent")
        );
    });
}

#[test]
fn the_workloads_page_counts_what_was_denied_and_by_which_policy() {
    run(async || {
        let mesh = Mesh::start(shop().file("policies.yaml", &policy("enforce"))).await;
        mesh.answers("page-v1", "ratings:9080/", 403).await;
        for _ in 0..5 {
            mesh.get("page-v1", "ratings:9080/").await.is(403);
        }
        wait::until("the denials to be counted", SOON, async || {
            let workload: Workload = mesh.operator.api("/api/v1/workloads/shop/ratings-v1?window=1m").await;
            let page = mesh.proxy("page-v1").pod.identity();
            let row = workload.authorizations.iter().find(|row| row.client.as_deref() == Some(&page));
            let row = row.ok_or_else(|| format!("{:?}", workload.authorizations))?;
            if row.denied < 5 || row.policy != "AuthorizationPolicy shop/ratings-viewer" {
                return Err(format!("{row:?}"));
            }
            Ok(())
        })
        .await;
    });
}

#[test]
fn audit_records_and_refuses_nothing() {
    run(async || {
        let mesh = Mesh::start(shop().file("policies.yaml", &policy("enforce"))).await;
        mesh.answers("page-v1", "ratings:9080/", 403).await;
        mesh.edit("policies.yaml", &policy("audit"));
        mesh.answers("page-v1", "ratings:9080/", 200).await;
        for _ in 0..5 {
            mesh.get("page-v1", "ratings:9080/").await.is(200);
        }
        wait::until("the audit to be counted", SOON, async || {
            let workload: Workload = mesh.operator.api("/api/v1/workloads/shop/ratings-v1?window=1m").await;
            let audited: u64 = workload.authorizations.iter().map(|row| row.audited).sum();
            if audited >= 5 { Ok(()) } else { Err(format!("{:?}", workload.authorizations)) }
        })
        .await;
        let list: AuthzList = mesh.operator.api("/api/v1/authz?to=shop/ratings-v1&from=shop/page-v1").await;
        assert!(list.rows.iter().any(|row| row.verdict == Verdict::Audited), "{list:?}");
    });
}

#[test]
fn a_policy_applies_within_a_second_of_its_edit_on_open_connections_too() {
    run_alone(async || {
        let mesh = Mesh::start(shop()).await;
        mesh.answers("page-v1", "ratings:9080/", 200).await;
        let mut conn = client::Conn::http1(mesh.proxy("page-v1").pod.outbound()).await.unwrap();
        conn.send(client::to("http://ratings:9080/")).await.unwrap().is(200);
        mesh.edit("policies.yaml", &policy("enforce"));
        let edited = Instant::now();
        wait::until("the open connection's next request to be denied", SOON, async || {
            match conn.send(client::to("http://ratings:9080/")).await {
                Ok(reply) if reply.status == 403 => Ok(()),
                Ok(reply) => Err(reply.status.to_string()),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await;
        assert!(edited.elapsed() <= Duration::from_secs(1), "{:?}", edited.elapsed());
        std::fs::remove_file(mesh.operator.manifests().join("policies.yaml")).unwrap();
        mesh.answers("page-v1", "ratings:9080/", 200).await;
    });
}
