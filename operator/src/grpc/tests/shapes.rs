//! Three views of one fixture: the objects (shop.yaml), the policy computed from them, and the messages that carry it.

use super::{SHOP, tables};
use crate::grpc::encode;
use linkerd2_proxy_api::inbound::Server;
use mesh_policy::{Authority, Tables, outbound::Target};
use std::collections::BTreeMap;

fn target(text: &str) -> Target {
    match text.parse() {
        Ok(addr) => Target::Addr(addr),
        Err(_) => Target::Authority(Authority::parse(text, "cluster.local").unwrap()),
    }
}

fn outbound(tables: &Tables, name: &str, text: &str) {
    let policy = tables.outbound(&target(text), "shop").unwrap();
    insta::assert_yaml_snapshot!(format!("{name}_policy"), policy);
    insta::assert_snapshot!(format!("{name}_message"), in_order(&encode::outbound::policy(&policy)));
}

fn inbound(tables: &Tables, pod: &str, port: u16) {
    let policy = tables.inbound("shop", pod, port).unwrap();
    insta::assert_yaml_snapshot!(format!("inbound_{pod}_{port}_policy"), policy);
    let server: Server = encode::inbound::server(&policy);
    insta::assert_snapshot!(format!("inbound_{pod}_{port}_message"), in_order(&server));
}

/// A message as indented text: `Some`, brackets and braces left out, bytes as text, maps in order.
fn in_order(message: &impl std::fmt::Debug) -> String {
    let text = format!("{message:#?}");
    let mut lines: Vec<String> = vec![];
    let mut above: Vec<usize> = vec![];
    let mut bytes = String::new();
    let mut begun: Option<(usize, String)> = None;
    for line in sort_maps(&text) {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if let Some(byte) =
            content.strip_suffix(',').and_then(|number| number.parse::<u8>().ok()).filter(|byte| *byte >= 32)
        {
            bytes.push(char::from(byte));
            continue;
        }
        if !bytes.is_empty() {
            lines.last_mut().unwrap().push_str(&format!(" {:?}", std::mem::take(&mut bytes)));
        }
        if content.trim_matches([')', ']', '}', ',']).is_empty() {
            continue;
        }
        let (indent, joined) = match begun.take() {
            Some((indent, before)) => (indent, before + content),
            None => (indent, content.to_owned()),
        };
        if joined.ends_with('(') {
            begun = Some((indent, joined));
            continue;
        }
        while above.last().is_some_and(|last| *last >= indent) {
            above.pop();
        }
        let words = joined.replace("Some(", "").replace('(', " ");
        lines.push(format!("{}{}", "  ".repeat(above.len()), words.trim_end_matches([',', ' ', '{', '['])));
        above.push(indent);
    }
    lines.join("\n")
}

/// The order of a map's entries is random: here it is that of the alphabet.
fn sort_maps(text: &str) -> Vec<String> {
    let mut ordered: Vec<String> = vec![];
    let mut map: Option<(String, BTreeMap<String, String>)> = None;
    for line in text.lines() {
        let entry = line.trim_start();
        match &mut map {
            None if entry.ends_with("labels: {") => {
                ordered.push(line.to_owned());
                map = Some((line[..line.len() - entry.len()].to_owned(), BTreeMap::new()));
            }
            Some((indent, entries)) if line == format!("{indent}}},") => {
                ordered.extend(entries.values().cloned());
                ordered.push(line.to_owned());
                map = None;
            }
            Some((_, entries)) => {
                entries.insert(entry.to_owned(), line.to_owned());
            }
            None => ordered.push(line.to_owned()),
        }
    }
    ordered
}

#[test]
fn outbound_policies() {
    let tables = tables(SHOP);
    outbound(&tables, "service_with_route", "cart.shop.svc.cluster.local:80");
    outbound(&tables, "service_without_route", "cart-v2.shop.svc.cluster.local:80");
    outbound(&tables, "opaque_service", "db.shop.svc.cluster.local:5000");
    outbound(&tables, "undefined_port", "10.96.0.1:7");
    outbound(&tables, "meshed_pod", "10.0.0.2:8080");
    outbound(&tables, "unknown_address", "192.0.2.1:443");
}

#[test]
fn inbound_policies() {
    let tables = tables(SHOP);
    inbound(&tables, "cart-1", 8080);
    inbound(&tables, "web", 8080);
    inbound(&tables, "db-0", 5000);
}
