use super::*;
use crate::policy::http::{HeaderMatch, QueryMatch};

fn path(path: PathMatch) -> RequestMatch {
    RequestMatch { path, ..RequestMatch::default() }
}

fn exact(value: &str) -> RequestMatch {
    path(PathMatch::Exact(value.into()))
}

fn prefix(value: &str) -> RequestMatch {
    path(PathMatch::Prefix(value.into()))
}

fn regex(value: &str) -> RequestMatch {
    path(PathMatch::Regex(regex::Regex::new(&format!("^(?:{value})$")).unwrap()))
}

fn header(name: &'static str, value: &str) -> HeaderMatch {
    HeaderMatch { name: http::HeaderName::from_static(name), value: ValueMatch::Exact(value.into()) }
}

/// Which of `rules` (each one match of a route of its own) takes the request.
fn winner(rules: &[RequestMatch], req: http::request::Builder) -> Option<usize> {
    let none: &[HostMatch] = &[];
    let table = Table::new(rules.iter().map(|rule| (none, vec![std::slice::from_ref(rule)])));
    table.find(&req.body(()).unwrap()).map(|found| found.route)
}

fn get(target: &str) -> http::request::Builder {
    Request::get(target)
}

#[test]
fn gateway_api_precedence() {
    let with_method = RequestMatch { method: Some(http::Method::GET), ..prefix("/a") };
    let with_header = RequestMatch { headers: vec![header("x", "1")], ..prefix("/a") };
    let with_query = RequestMatch {
        query: vec![QueryMatch { name: "q".into(), value: ValueMatch::Exact("1".into()) }],
        ..prefix("/a")
    };
    let req = || get("http://h/a/b?q=1").header("x", "1");
    // Each list from the least to the most specific: the last wins, wherever it stands.
    for ranked in [
        vec![prefix("/"), regex("/a.*"), prefix("/a"), prefix("/a/b"), exact("/a/b")],
        vec![prefix("/a"), with_query.clone(), with_header.clone(), with_method.clone()],
    ] {
        for n in 1..=ranked.len() {
            let mut rules = ranked[..n].to_vec();
            assert_eq!(winner(&rules, req()), Some(n - 1));
            rules.reverse();
            assert_eq!(winner(&rules, req()), Some(0));
        }
    }
    assert_eq!(winner(&[prefix("/a"), prefix("/a/")], req()), Some(0), "ties go to the first");
}

#[test]
fn prefixes_are_of_path_elements() {
    for (rule, target, want) in [
        ("/v2", "/v2", true),
        ("/v2", "/v2/", true),
        ("/v2", "/v2/x", true),
        ("/v2/", "/v2", true),
        ("/v2", "/v2x", false),
        ("/v2", "/V2", false),
        ("/", "/anything", true),
    ] {
        assert_eq!(prefix_matches(rule, target), want, "{rule} {target}");
    }
}

#[test]
fn of_a_repeated_header_the_first_counts() {
    let rules = [RequestMatch { headers: vec![header("x", "1")], ..RequestMatch::default() }];
    assert_eq!(winner(&rules, get("/").header("x", "1").header("x", "2")), Some(0));
    assert_eq!(winner(&rules, get("/").header("x", "2").header("x", "1")), None);
}

#[test]
fn query_values_are_decoded_and_the_first_counts() {
    let rule = |value: &str| {
        let query = vec![QueryMatch { name: "a b".into(), value: ValueMatch::Exact(value.into()) }];
        [RequestMatch { query, ..RequestMatch::default() }]
    };
    assert_eq!(winner(&rule("x y"), get("/?a+b=x%20y&a+b=z")), Some(0));
    assert_eq!(winner(&rule("z"), get("/?a%20b=x&a+b=z")), None);
    assert_eq!(winner(&rule("%zz"), get("/?a+b=%zz")), Some(0));
}

#[test]
fn hosts_match_whatever_their_case_port_or_final_dot() {
    let hosts = [HostMatch::Exact("a.b".into()), HostMatch::Suffix("c.d".into())];
    let everything = RequestMatch::default();
    let table = Table::new([(&hosts[..], vec![std::slice::from_ref(&everything)])]);
    for (host, want) in [
        ("a.b", true),
        ("A.B.", true),
        ("a.b:80", true),
        ("x.c.d", true),
        ("x.y.c.d:1", true),
        ("c.d", false),
        ("xc.d", false),
        ("b", false),
    ] {
        let req = Request::get("/").header("host", host).body(()).unwrap();
        assert_eq!(table.find(&req).is_some(), want, "{host}");
    }
}
