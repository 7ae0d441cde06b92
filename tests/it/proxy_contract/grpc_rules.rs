//! What a rule of a gRPC route can say: methods, filters, retries by status.

use linkerd2_proxy_api::{
    grpc_route::{GrpcFailureInjector, GrpcRouteMatch, GrpcRpcMatch},
    http_route::RequestHeaderModifier,
    outbound::{self, grpc_route as grpc, proxy_protocol},
};
use mesh_tests::{
    client::{self, Conn},
    control_plane::message::{self, balanced, headers},
    grpc::framed,
    pair::{PORT, Pair, WEB},
    story::run,
};

/// A rule for one method of `demo.Echo`.
fn grpc_rule(method: &str) -> grpc::Rule {
    grpc::Rule {
        matches: vec![GrpcRouteMatch {
            rpc: Some(GrpcRpcMatch { service: "demo.Echo".into(), method: method.into() }),
            headers: vec![],
        }],
        backends: Some(grpc::Distribution {
            kind: Some(grpc::distribution::Kind::FirstAvailable(grpc::distribution::FirstAvailable {
                backends: vec![grpc::RouteBackend { backend: Some(balanced(WEB)), ..Default::default() }],
            })),
        }),
        ..Default::default()
    }
}

fn grpc_policy(rules: Vec<grpc::Rule>) -> outbound::OutboundPolicy {
    let route = outbound::GrpcRoute { metadata: message::by_default("grpc"), hosts: vec![], rules };
    outbound::OutboundPolicy {
        metadata: message::service(WEB),
        protocol: Some(outbound::ProxyProtocol {
            kind: Some(proxy_protocol::Kind::Grpc(proxy_protocol::Grpc {
                routes: vec![route],
                failure_accrual: None,
            })),
        }),
    }
}

/// A call of a method.
fn request(method: &str) -> ::http::Request<client::Body> {
    let mut request = client::to(&format!("http://web.demo:{PORT}/demo.Echo/{method}"));
    *request.method_mut() = ::http::Method::POST;
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    *request.body_mut() = client::body(framed(b"hello"));
    request
}

/// Calls a method; its status.
async fn call(conn: &mut Conn, method: &str) -> String {
    let reply = conn.send(request(method)).await.unwrap().is(200);
    let status = reply.headers.get("grpc-status").or(reply.trailers.get("grpc-status"));
    status.map_or_else(String::new, |status| String::from_utf8_lossy(status.as_bytes()).into_owned())
}

#[test]
fn grpc_routes_match_by_method_and_answer_in_grpc() {
    run(async || {
        let pair = Pair::start().await;
        let mut injected = grpc_rule("Fail");
        injected.filters = vec![grpc::Filter {
            kind: Some(grpc::filter::Kind::FailureInjector(GrpcFailureInjector {
                code: 14,
                message: "away".into(),
                ratio: None,
            })),
        }];
        pair.origin.answers(|_| std::future::ready(grpc_ok()));
        pair.control_plane.outbound(WEB).set(grpc_policy(vec![grpc_rule("Get"), injected]));
        let mut conn = Conn::http2(pair.client.pod.outbound()).await.unwrap();
        for (method, expected) in [("Get", "0"), ("Fail", "14"), ("Other", "12")] {
            assert_eq!(call(&mut conn, method).await, expected, "{method}");
        }
    });
}

/// A filter of the rule comes before one of its backend; both speak of what the server gets.
#[test]
fn header_modifiers_of_a_grpc_route_change_what_the_server_gets() {
    run(async || {
        let pair = Pair::start().await;
        let modifier = |set, add, remove: &str| grpc::Filter {
            kind: Some(grpc::filter::Kind::RequestHeaderModifier(RequestHeaderModifier {
                set: headers(&[("x-set", set)]),
                add: headers(&[("x-add", add)]),
                remove: vec![remove.into()],
            })),
        };
        let mut changed = grpc_rule("Get");
        changed.filters = vec![modifier("rule", "rule", "x-secret")];
        if let Some(grpc::distribution::Kind::FirstAvailable(first)) =
            &mut changed.backends.as_mut().unwrap().kind
        {
            first.backends[0].filters = vec![modifier("backend", "backend", "x-other")];
        }
        pair.origin.answers(|_| std::future::ready(grpc_ok()));
        pair.control_plane.outbound(WEB).set(grpc_policy(vec![changed, grpc_rule("Plain")]));
        let mut conn = Conn::http2(pair.client.pod.outbound()).await.unwrap();
        for (method, expected) in [
            ("Get", ["backend", "app|rule|backend", "", "", "kept"]),
            ("Plain", ["app", "app", "app", "app", "kept"]),
        ] {
            let mut request = request(method);
            for name in ["x-set", "x-add", "x-secret", "x-other"] {
                request.headers_mut().insert(name, "app".parse().unwrap());
            }
            request.headers_mut().insert("x-kept", "kept".parse().unwrap());
            conn.send(request).await.unwrap().is(200);
            let seen = pair.origin.last();
            let names = ["x-set", "x-add", "x-secret", "x-other", "x-kept"];
            assert_eq!(names.map(|name| seen.header(name)), expected, "{method}");
        }
    });
}

/// Where a status may stand: in the head of an answer that is nothing else, or in trailers. Once there was a message it is too late.
#[test]
fn retries_mask_a_grpc_status_wherever_it_stands() {
    run(async || {
        let pair = Pair::start().await;
        let retried = |method| {
            let conditions = grpc::retry::Conditions { unavailable: true, ..Default::default() };
            let mut rule = grpc_rule(method);
            rule.retry = Some(grpc::Retry {
                max_retries: 1,
                max_request_bytes: 1_024,
                conditions: Some(conditions),
                ..Default::default()
            });
            rule
        };
        let turn = std::sync::atomic::AtomicU32::new(0);
        pair.origin.answers(move |req| {
            let second = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2 == 1;
            let method = req.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            async move {
                let _ = http_body_util::BodyExt::collect(req.into_body()).await;
                let (status, other) = (if second { "0" } else { "14" }, if second { "0" } else { "5" });
                match method.as_str() {
                    "Head" => grpc_head(status),
                    "Trailers" => grpc_trailers(b"", status),
                    "Message" => grpc_trailers(b"hello", status),
                    _ => grpc_trailers(b"", other),
                }
            }
        });
        let methods = ["Head", "Trailers", "Message", "Other"];
        pair.control_plane.outbound(WEB).set(grpc_policy(methods.map(retried).to_vec()));
        let mut conn = Conn::http2(pair.client.pod.outbound()).await.unwrap();
        for (method, statuses) in
            [("Head", ["0", "0"]), ("Trailers", ["0", "0"]), ("Message", ["14", "0"]), ("Other", ["5", "0"])]
        {
            let got = [call(&mut conn, method).await, call(&mut conn, method).await];
            assert_eq!(got, statuses, "{method}");
        }
    });
}

/// A status in trailers, after this message if it is one.
fn grpc_trailers(message: &'static [u8], status: &'static str) -> ::http::Response<client::Body> {
    use http_body_util::BodyExt;
    let message = if message.is_empty() { vec![] } else { framed(message).to_vec() };
    let trailers = ::http::HeaderMap::from_iter([(
        ::http::HeaderName::from_static("grpc-status"),
        ::http::HeaderValue::from_static(status),
    )]);
    // A body of known length would end with it.
    let frames = tokio_stream::iter(
        [message].into_iter().filter(|m| !m.is_empty()).map(|m| Ok(hyper::body::Frame::data(m.into()))),
    );
    let body = http_body_util::StreamBody::new(frames)
        .with_trailers(std::future::ready(Some(Ok(trailers))))
        .boxed_unsync();
    let mut response = ::http::Response::new(body);
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}

fn grpc_head(status: &str) -> ::http::Response<client::Body> {
    let mut response = grpc_ok();
    response.headers_mut().insert("grpc-status", status.parse().unwrap());
    response
}

fn grpc_ok() -> ::http::Response<client::Body> {
    let mut response = mesh_tests::origin::text(200, "");
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response.headers_mut().insert("grpc-status", "0".parse().unwrap());
    response
}
