//! A workload and its neighbours one hop away, as a small still graph: callers left, callees right.

use crate::{
    format,
    graph::geometry::{arrow_head, edge_path, edge_width, rail, shorten},
    navigate::use_nav,
    parts::glyph,
    place::Page,
    words,
};
use leptos::prelude::*;
use mesh_api::{
    graph::Edge,
    health::Health,
    workload::{Peer, Workload},
};

const CARD_WIDTH: f64 = 156.0;
const CARD_HEIGHT: f64 = 44.0;
const GAP_Y: f64 = 12.0;
const GAP_X: f64 = 130.0;
/// More neighbours than this are left to the tables below.
const MOST: usize = 5;

struct Card {
    title: String,
    sub: String,
    health: Health,
    /// Node id in the graph.
    id: String,
    x: f64,
    y: f64,
}

pub fn mini(workload: &Workload) -> impl IntoView + use<> {
    let inbound: Vec<&Peer> = workload.inbound.iter().take(MOST).collect();
    let outbound: Vec<&Peer> = workload.outbound.iter().take(MOST).collect();
    let rows = inbound.len().max(outbound.len()).max(1) as f64;
    let height = rows * (CARD_HEIGHT + GAP_Y) + GAP_Y;
    let column_y = |index: usize, count: usize| {
        let used = count as f64 * (CARD_HEIGHT + GAP_Y) - GAP_Y;
        (height - used) / 2.0 + index as f64 * (CARD_HEIGHT + GAP_Y)
    };
    let left = 8.0;
    // A side without neighbours takes no room.
    let middle = if inbound.is_empty() { left } else { left + CARD_WIDTH + GAP_X };
    let right = if outbound.is_empty() { middle } else { middle + CARD_WIDTH + GAP_X };
    let row = &workload.row;
    let center = Card {
        title: row.name.clone(),
        sub: format::rate(row.golden.rate_per_s).text(),
        health: row.health,
        id: format!("w:{}/{}", row.namespace, row.name),
        x: middle,
        y: column_y(0, 1),
    };
    let card_of = |peer: &Peer, x: f64, y: f64| Card {
        title: peer.name.clone(),
        sub: format!(
            "{} · {}",
            format::rate(peer.golden.rate_per_s).text(),
            format::share(peer.golden.success).text()
        ),
        health: peer.health,
        id: peer.id.clone(),
        x,
        y,
    };
    let mut cards = Vec::new();
    let mut wires = Vec::new();
    for (i, peer) in inbound.iter().enumerate() {
        let card = card_of(peer, left, column_y(i, inbound.len()));
        wires.push(wire(&card, &center, peer));
        cards.push(card);
    }
    for (i, peer) in outbound.iter().enumerate() {
        let card = card_of(peer, right, column_y(i, outbound.len()));
        wires.push(wire(&center, &card, peer));
        cards.push(card);
    }
    cards.push(center);
    let width = right + CARD_WIDTH + left;
    let view_box = format!("0 0 {width} {height}");
    view! {
        <div class="mini">
            <svg viewBox=view_box width=width role="group" aria-label="Neighbours">
                {wires}
                {cards.into_iter().map(card).collect_view()}
            </svg>
        </div>
    }
}

fn wire(from: &Card, to: &Card, peer: &Peer) -> AnyView {
    let (start, end) = ((from.x + CARD_WIDTH, from.y + CARD_HEIGHT / 2.0), (to.x, to.y + CARD_HEIGHT / 2.0));
    let bend = (end.0 - start.0) / 2.0;
    let points = vec![start, (start.0 + bend, start.1), (end.0 - bend, end.1), end];
    let edge = Edge { id: String::new(), from: String::new(), to: String::new(), points, back: false };
    let plaintext = if peer.mtls.is_some_and(|share| share < 1.0) { " plaintext" } else { "" };
    view! {
        <g class=format!("edge {}{plaintext}", words::class(peer.health))>
            <path class="wire" d=edge_path(&edge, true) stroke-width=edge_width(peer.golden.rate_per_s)/>
            <path class="head" d=arrow_head(&edge)/>
        </g>
    }
    .into_any()
}

fn card(card: Card) -> impl IntoView {
    let nav = use_nav();
    let target = nav.place_now().to(Page::Graph).with("sel", card.id).href();
    let class = words::class(card.health);
    view! {
        // The outer group tells the macro that this link is SVG's, not HTML's.
        <g>
            <a href=target>
                <g class=format!("node {class}") transform=format!("translate({:.1} {:.1})", card.x, card.y)>
                    <rect class="card-box" width=CARD_WIDTH height=CARD_HEIGHT rx="8"/>
                    <path class="rail" d=rail(CARD_HEIGHT)/>
                    <g
                        class=format!("glyph {class}")
                        transform="translate(11 6) scale(.9)"
                        role="img"
                        aria-label=card.health.word()
                    >
                        {glyph::shape(card.health)}
                    </g>
                    <text class="title" x="32" y="18">{shorten(&card.title, CARD_WIDTH - 42.0, 7.0)}</text>
                    <text class="figures" x="32" y="35">{card.sub}</text>
                </g>
            </a>
        </g>
    }
}
