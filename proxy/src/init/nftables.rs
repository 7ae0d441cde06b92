//! The rules in nf_tables' words: one table of ours per family, replaced whole, so that a second run changes nothing.

use super::{
    error::Error,
    netlink::{APPEND, Attributes, Batch, CREATE},
    plan::{Family, Match, Rule, Rules, octets},
};
use ipnet::IpNet;

const TABLE: &str = "mesh_proxy_init";

// Messages.
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;

const HOOK_PREROUTING: u32 = 0;
const HOOK_OUTPUT: u32 = 3;
/// Where destinations are translated.
const PRIORITY_DSTNAT: i32 = -100;

// Keys of the expression `meta`.
const OIFNAME: u32 = 7;
const SKUID: u32 = 10;
const SKGID: u32 = 11;
const L4PROTO: u32 = 16;

// Headers that the expression `payload` reads from.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// Of a TCP header's destination port.
const DESTINATION_PORT: u32 = 2;

const EQUAL: u32 = 0;
const VERDICT: u32 = 0;
const REGISTER: u32 = 1;
const RETURN: i32 = -5;
const TCP: u8 = 6;
/// What an interface's name is compared over.
const NAME_BYTES: usize = 16;

const NEEDS_TABLE: &str = "nf_tables for this family (CONFIG_NF_TABLES_IPV4, CONFIG_NF_TABLES_IPV6)";
const NEEDS_CHAIN: &str = "nat chains (CONFIG_NFT_NAT, module nft_chain_nat)";
const NEEDS_MATCH: &str = "nf_tables matches (CONFIG_NF_TABLES)";
const NEEDS_REDIRECT: &str = "redirection (CONFIG_NFT_REDIR, module nft_redir)";

pub fn apply(family: Family, rules: &Rules) -> Result<(), Error> {
    let number = match family {
        Family::V4 => libc::NFPROTO_IPV4,
        Family::V6 => libc::NFPROTO_IPV6,
    };
    let mut batch = Batch::new(number as u8);
    let table = |attributes: &mut Attributes<'_>| attributes.text(1, TABLE);
    // Made first, so that there is always one to delete.
    batch.push(NEW_TABLE, CREATE, NEEDS_TABLE, table);
    batch.push(DELETE_TABLE, 0, NEEDS_TABLE, table);
    batch.push(NEW_TABLE, CREATE, NEEDS_TABLE, table);
    for (chain, hook, rules) in
        [("prerouting", HOOK_PREROUTING, &rules.prerouting), ("output", HOOK_OUTPUT, &rules.output)]
    {
        batch.push(NEW_CHAIN, CREATE, NEEDS_CHAIN, |attributes| {
            attributes.text(1, TABLE);
            attributes.text(3, chain);
            attributes.nested(4, |at| {
                at.number(1, hook);
                at.number(2, PRIORITY_DSTNAT as u32);
            });
            attributes.text(7, "nat");
        });
        for rule in rules {
            let needs = match rule {
                Rule::Spare(_) => NEEDS_MATCH,
                Rule::Redirect(_) => NEEDS_REDIRECT,
            };
            batch.push(NEW_RULE, CREATE | APPEND, needs, |attributes| {
                attributes.text(1, TABLE);
                attributes.text(2, chain);
                attributes.nested(4, |list| expressions(rule, &mut Expressions(list)));
            });
        }
    }
    batch.apply()
}

fn expressions(rule: &Rule, list: &mut Expressions<'_, '_>) {
    match rule {
        Rule::Redirect(port) => {
            list.meta(L4PROTO);
            list.equals(&[TCP]);
            list.load(&port.to_be_bytes());
            list.redirect();
            return;
        }
        Rule::Spare(Match::Uid(uid)) => {
            list.meta(SKUID);
            list.equals(&uid.to_ne_bytes());
        }
        Rule::Spare(Match::Gid(gid)) => {
            list.meta(SKGID);
            list.equals(&gid.to_ne_bytes());
        }
        Rule::Spare(Match::Loopback) => {
            let mut name = [0; NAME_BYTES];
            name[..2].copy_from_slice(b"lo");
            list.meta(OIFNAME);
            list.equals(&name);
        }
        Rule::Spare(Match::To(ports)) => {
            list.meta(L4PROTO);
            list.equals(&[TCP]);
            list.payload(TRANSPORT, DESTINATION_PORT, 2);
            list.within(&ports.start().to_be_bytes(), &ports.end().to_be_bytes());
        }
        Rule::Spare(Match::FromNet(net)) => list.address(net, Address::Source),
        Rule::Spare(Match::ToNet(net)) => list.address(net, Address::Destination),
    }
    list.spare();
}

enum Address {
    Source,
    Destination,
}

/// The expressions of one rule.
struct Expressions<'a, 'b>(&'a mut Attributes<'b>);

impl Expressions<'_, '_> {
    fn push(&mut self, name: &str, data: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nested(1, |element| {
            element.text(1, name);
            element.nested(2, data);
        });
    }

    fn meta(&mut self, key: u32) {
        self.push("meta", |data| {
            data.number(1, REGISTER);
            data.number(2, key);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32) {
        self.push("payload", |data| {
            data.number(1, REGISTER);
            data.number(2, base);
            data.number(3, offset);
            data.number(4, length);
        });
    }

    fn equals(&mut self, value: &[u8]) {
        self.push("cmp", |data| {
            data.number(1, REGISTER);
            data.number(2, EQUAL);
            data.nested(3, |inner| inner.bytes(1, value));
        });
    }

    fn within(&mut self, from: &[u8], to: &[u8]) {
        self.push("range", |data| {
            data.number(1, REGISTER);
            data.number(2, EQUAL);
            data.nested(3, |inner| inner.bytes(1, from));
            data.nested(4, |inner| inner.bytes(1, to));
        });
    }

    /// Is the packet's address in the network?
    fn address(&mut self, net: &IpNet, which: Address) {
        let (mask, network) = (octets(net.netmask()), octets(net.network()));
        // In the IP header.
        let offset = match (net, which) {
            (IpNet::V4(_), Address::Source) => 12,
            (IpNet::V4(_), Address::Destination) => 16,
            (IpNet::V6(_), Address::Source) => 8,
            (IpNet::V6(_), Address::Destination) => 24,
        };
        self.payload(NETWORK, offset, mask.len() as u32);
        self.push("bitwise", |data| {
            data.number(1, REGISTER);
            data.number(2, REGISTER);
            data.number(3, mask.len() as u32);
            data.nested(4, |inner| inner.bytes(1, &mask));
            data.nested(5, |inner| inner.bytes(1, &vec![0; mask.len()]));
        });
        self.equals(&network);
    }

    fn load(&mut self, value: &[u8]) {
        self.push("immediate", |data| {
            data.number(1, REGISTER);
            data.nested(2, |inner| inner.bytes(1, value));
        });
    }

    /// To the port that was loaded.
    fn redirect(&mut self) {
        self.push("redir", |data| data.number(1, REGISTER));
    }

    fn spare(&mut self) {
        self.push("immediate", |data| {
            data.number(1, VERDICT);
            data.nested(2, |inner| inner.nested(2, |verdict| verdict.number(1, RETURN as u32)));
        });
    }
}
