//! The rules in the legacy tables, for kernels without nf_tables: two chains of ours in the table nat, filled anew and jumped to
//! once, so that a second run changes nothing. Others' rules stay where they are; the counters of all begin at zero.

use super::{
    error::Error,
    plan::{self, Family, Rule, Rules},
    sockopt::Nat,
    xtables::{Chain, Entry, Extension, Kind, Match, Name, OUTPUT, PREROUTING, Packet, Table, Target},
};

const INBOUND: &str = "MESH_PROXY_INIT_IN";
const OUTBOUND: &str = "MESH_PROXY_INIT_OUT";
/// A table is read and then replaced whole. It is read again when somebody came in between; each time somebody else is done.
const TRIES: usize = 16;

const TCP: Extension = Extension {
    kind: Kind::Match,
    name: "tcp",
    revision: 0,
    needs: "match tcp (CONFIG_NETFILTER_XTABLES, module xt_tcpudp)",
};
const OWNER: Extension = Extension {
    kind: Kind::Match,
    name: "owner",
    revision: 1,
    needs: "match owner (CONFIG_NETFILTER_XT_MATCH_OWNER, module xt_owner)",
};
const REDIRECT: Extension = Extension {
    kind: Kind::Target,
    name: "REDIRECT",
    revision: 0,
    needs: "target REDIRECT (CONFIG_NETFILTER_XT_TARGET_REDIRECT, module xt_REDIRECT)",
};

/// `XT_OWNER_UID`, `XT_OWNER_GID`.
const UID: u8 = 1;
const GID: u8 = 2;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`: another port, the address as it is.
const PORT: u32 = 2;

pub fn apply(family: Family, rules: &Rules) -> Result<(), Error> {
    let nat = Nat::open(family)?;
    // The kernel does not say what it lacks of a table that is refused.
    for extension in [TCP, OWNER, REDIRECT] {
        nat.knows(&extension)?;
    }
    until_first(TRIES, || {
        let old = nat.read()?;
        let table = Table::decode(family, &old).and_then(|table| redirecting(table, family, rules));
        nat.replace(&old, &table.ok_or(Error::Unread)?.encode(family))
    })
}

/// Tries again while others are first, so many times in all.
fn until_first(tries: usize, mut attempt: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
    let raced = |outcome: &Result<(), Error>| matches!(outcome, Err(Error::Raced));
    (0..tries).map(|_| attempt()).find(|outcome| !raced(outcome)).unwrap_or(Err(Error::Raced))
}

/// The table with our rules in it: behind those that others have in the kernel's chains already, or where they are.
fn redirecting(Table(mut chains): Table, family: Family, rules: &Rules) -> Option<Table> {
    let always = |target| Entry::new(family, &Packet::default(), &Match::default(), target);
    for (hook, name, rules) in [(PREROUTING, INBOUND, &rules.prerouting), (OUTPUT, OUTBOUND, &rules.output)] {
        let entries = rules.iter().map(|rule| entry(family, rule)).chain([always(Target::Return)]);
        let chain = Chain { name: Name::User(name.into()), entries: entries.collect() };
        let place = chains.iter().position(|old| old.name == chain.name).unwrap_or(chains.len());
        match chains.get_mut(place) {
            Some(old) => *old = chain,
            None => chains.push(chain),
        }
        let of_hook = &mut chains.iter_mut().find(|chain| chain.name == Name::Hook(hook))?.entries;
        if !of_hook.iter().any(|entry| entry.jumps_to(place)) {
            of_hook.insert(of_hook.len() - 1, always(Target::Jump(place)));
        }
    }
    Some(Table(chains))
}

fn entry(family: Family, rule: &Rule) -> Entry {
    let any = Packet::default();
    let (packet, matching) = match rule {
        Rule::Redirect(port) => {
            let target = Target::Extension(REDIRECT.bytes(&range(family, *port)));
            return Entry::new(family, &Packet { tcp: true, ..any }, &Match::default(), target);
        }
        Rule::Spare(plan::Match::Uid(uid)) => (any, owner(UID, *uid)),
        Rule::Spare(plan::Match::Gid(gid)) => (any, owner(GID, *gid)),
        Rule::Spare(plan::Match::Loopback) => (Packet { leaves_by: "lo", ..any }, Match::default()),
        Rule::Spare(plan::Match::To(ports)) => {
            (Packet { tcp: true, ..any }, to_ports(*ports.start(), *ports.end()))
        }
        Rule::Spare(plan::Match::FromNet(net)) => (Packet { from: Some(*net), ..any }, Match::default()),
        Rule::Spare(plan::Match::ToNet(net)) => (Packet { to: Some(*net), ..any }, Match::default()),
    };
    Entry::new(family, &packet, &matching, Target::Return)
}

/// `struct xt_owner_match_info`: ranges of users and of groups, and which of them counts.
fn owner(which: u8, id: u32) -> Match {
    let ids = [id; 4].map(u32::to_ne_bytes).concat();
    Match(OWNER.bytes(&[&ids[..], &[which, 0, 0, 0]].concat()))
}

/// `struct xt_tcp`: ranges of ports, where from and where to; an option, flags and what is inverted.
fn to_ports(first: u16, last: u16) -> Match {
    let ports = [0, u16::MAX, first, last].map(u16::to_ne_bytes).concat();
    Match(TCP.bytes(&[&ports[..], &[0; 4]].concat()))
}

/// `struct nf_nat_ipv4_multi_range_compat` of one range, or `struct nf_nat_range`: flags, addresses and ports from and to.
fn range(family: Family, port: u16) -> Vec<u8> {
    let flags = PORT.to_ne_bytes();
    let ports = [port; 2].map(u16::to_be_bytes).concat();
    match family {
        Family::V4 => [&1_u32.to_ne_bytes()[..], &flags, &[0; 8], &ports].concat(),
        Family::V6 => [&flags[..], &[0; 32], &ports].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::xtables::testing, *};
    use proptest::prelude::*;

    fn family() -> impl Strategy<Value = Family> {
        prop_oneof![Just(Family::V4), Just(Family::V6)]
    }

    /// Rules of every kind, to be told apart by their ports.
    fn rules() -> impl Strategy<Value = Rules> {
        let ports = prop::collection::vec(any::<std::ops::RangeInclusive<u16>>(), 0..4);
        (ports.clone(), ports, 1..u16::MAX).prop_map(|(inbound, outbound, port)| {
            let to = |ports: Vec<_>| ports.into_iter().map(|ports| Rule::Spare(plan::Match::To(ports)));
            let output = [plan::Match::Uid(2102), plan::Match::Gid(2102), plan::Match::Loopback];
            Rules {
                prerouting: to(inbound).chain([Rule::Redirect(port)]).collect(),
                output: output.map(Rule::Spare).into_iter().chain(to(outbound)).collect(),
            }
        })
    }

    /// Without what is ours; chains of ours stand last when others made theirs before.
    fn others(Table(mut chains): Table, ours: usize) -> Table {
        chains.truncate(ours);
        for chain in &mut chains {
            chain.entries.retain(|entry| !entry.jumps_to(ours) && !entry.jumps_to(ours + 1));
        }
        Table(chains)
    }

    proptest! {
        #[test]
        fn other_rules_stay_and_ours_are_there_once_whatever_was_set_before(
            (family, table) in family().prop_flat_map(|family| (Just(family), testing::table(family))),
            (before, now) in (rules(), rules()),
        ) {
            let once = redirecting(table.clone(), family, &now).unwrap();
            let again = redirecting(redirecting(table.clone(), family, &before).unwrap(), family, &now).unwrap();
            prop_assert_eq!(&again, &once);
            let ours = table.0.len();
            prop_assert_eq!(once.0.len(), ours + 2);
            for (hook, place) in [(PREROUTING, ours), (OUTPUT, ours + 1)] {
                let chain = once.0.iter().find(|chain| chain.name == Name::Hook(hook)).unwrap();
                let jumps: Vec<_> = chain.entries.iter().map(|entry| entry.jumps_to(place)).collect();
                prop_assert_eq!(jumps.iter().filter(|jump| **jump).count(), 1);
                prop_assert!(jumps[jumps.len() - 2], "behind what others have, before the policy");
            }
            prop_assert_eq!(others(once, ours), table);
        }
    }

    #[test]
    fn a_lost_race_is_run_again_so_often_and_no_more() {
        let runs = |lost: usize| {
            let mut run = 0;
            let outcome = until_first(TRIES, || {
                run += 1;
                if run <= lost { Err(Error::Raced) } else { Ok(()) }
            });
            (run, outcome.is_ok())
        };
        assert_eq!([runs(0), runs(3), runs(TRIES)], [(1, true), (4, true), (TRIES, false)]);
    }

    #[test]
    fn what_is_no_race_ends_it() {
        let mut runs = 0;
        let outcome = until_first(TRIES, || {
            runs += 1;
            Err(Error::NotAllowed)
        });
        assert!(matches!(outcome, Err(Error::NotAllowed)));
        assert_eq!(runs, 1);
    }
}
