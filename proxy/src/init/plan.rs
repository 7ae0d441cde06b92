//! What is redirected and what is not: from flags and environment to rules that either kind of firewall can be told. Pure.

use crate::config::{
    Errors,
    knobs::{self, Knob},
    parse::{self, Env},
};
use ipnet::IpNet;
use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive};

#[derive(Clone, Debug)]
pub struct Plan {
    inbound_port: u16,
    outbound_port: u16,
    pub proxy_uid: u32,
    proxy_gid: Option<u32>,
    inbound_skip: Vec<RangeInclusive<u16>>,
    outbound_skip: Vec<RangeInclusive<u16>>,
    subnets: Vec<IpNet>,
    pub ipv6: bool,
    pub firewall: Firewall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// nftables, else iptables.
    Auto,
    Nftables,
    Iptables,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// For TCP connections; the first rule that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Leaves the connection as it is.
    Spare(Match),
    /// Sends every connection to this local port.
    Redirect(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    Uid(u32),
    Gid(u32),
    /// Leaves by the loopback interface: the pod talks to itself.
    Loopback,
    To(RangeInclusive<u16>),
    FromNet(IpNet),
    ToNet(IpNet),
}

/// Rules for connections that arrive, and for those that begin here.
#[derive(Clone, Debug)]
pub struct Rules {
    pub prerouting: Vec<Rule>,
    pub output: Vec<Rule>,
}

impl Plan {
    /// `get` finds a setting by its variable's name: a flag, else the environment.
    pub fn of(get: &dyn Fn(&str) -> Option<String>) -> Result<Plan, Errors> {
        let env = &mut Env::new(get);
        let ranges = |env: &mut Env, knob: &Knob| {
            env.optional(knob, parse::ports).map(|ports| ranges(&ports)).unwrap_or_default()
        };
        let plan = Plan {
            inbound_port: env.or_default(&knobs::INIT_INCOMING_PROXY_PORT, port),
            outbound_port: env.or_default(&knobs::INIT_OUTGOING_PROXY_PORT, port),
            proxy_uid: env.or_default(&knobs::INIT_PROXY_UID, parse::parsed),
            proxy_gid: env.optional(&knobs::INIT_PROXY_GID, parse::parsed),
            inbound_skip: ranges(env, &knobs::INIT_INBOUND_PORTS_TO_IGNORE),
            outbound_skip: ranges(env, &knobs::INIT_OUTBOUND_PORTS_TO_IGNORE),
            subnets: env.optional(&knobs::INIT_SUBNETS_TO_IGNORE, parse::networks).unwrap_or_default(),
            ipv6: env.or_default(&knobs::INIT_IPV6, parse::boolean),
            firewall: env.or_default(&knobs::INIT_FIREWALL, |text| {
                Some(match text {
                    "auto" => Firewall::Auto,
                    "nftables" => Firewall::Nftables,
                    "iptables" => Firewall::Iptables,
                    _ => return None,
                })
            }),
        };
        if plan.inbound_port == plan.outbound_port {
            env.bad.push(format!("inbound and outbound are both redirected to port {}", plan.inbound_port));
        }
        match env.bad.is_empty() {
            true => Ok(plan),
            false => Err(Errors::distinct(std::mem::take(&mut env.bad))),
        }
    }

    pub fn rules(&self, family: Family) -> Rules {
        let subnets = || {
            let ours = move |net: &&IpNet| matches!(net, IpNet::V4(_)) == (family == Family::V4);
            self.subnets.iter().filter(ours).copied()
        };
        let to =
            |ports: &[RangeInclusive<u16>]| -> Vec<Match> { ports.iter().cloned().map(Match::To).collect() };
        let prerouting = to(&self.inbound_skip).into_iter().chain(subnets().map(Match::FromNet));
        let output = [Match::Uid(self.proxy_uid)]
            .into_iter()
            .chain(self.proxy_gid.map(Match::Gid))
            .chain([Match::Loopback])
            .chain(to(&self.outbound_skip))
            .chain(subnets().map(Match::ToNet));
        let then = |port| [Rule::Redirect(port)];
        Rules {
            prerouting: prerouting.map(Rule::Spare).chain(then(self.inbound_port)).collect(),
            output: output.map(Rule::Spare).chain(then(self.outbound_port)).collect(),
        }
    }
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// As it is sent.
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn port(text: &str) -> Option<u16> {
    parse::parsed(text).filter(|port| *port != 0)
}

/// Neighbours together.
fn ranges(ports: &BTreeSet<u16>) -> Vec<RangeInclusive<u16>> {
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for port in ports.iter().copied() {
        match ranges.last_mut() {
            Some(last) if port - last.end() == 1 => *last = *last.start()..=port,
            Some(_) | None => ranges.push(port..=port),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(settings: &[(&str, &str)]) -> Result<Plan, Vec<String>> {
        let get = |name: &str| {
            let name = name.strip_prefix("MESH_PROXY_INIT_")?;
            settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Plan::of(&get).map_err(|errors| errors.0)
    }

    #[test]
    fn the_proxy_and_the_pod_itself_are_spared_and_ports_and_networks_as_told() {
        let plan = plan(&[
            ("PROXY_GID", "2102"),
            ("INBOUND_PORTS_TO_IGNORE", "4190,4191,4567"),
            ("OUTBOUND_PORTS_TO_IGNORE", "3306, 6000-6003"),
            ("SUBNETS_TO_IGNORE", "10.9.0.0/16,fd00::/8"),
        ])
        .unwrap();
        let net: IpNet = "10.9.0.0/16".parse().unwrap();
        let rules = plan.rules(Family::V4);
        assert_eq!(
            rules.prerouting,
            [
                Rule::Spare(Match::To(4190..=4191)),
                Rule::Spare(Match::To(4567..=4567)),
                Rule::Spare(Match::FromNet(net)),
                Rule::Redirect(4143),
            ]
        );
        assert_eq!(
            rules.output,
            [
                Rule::Spare(Match::Uid(2102)),
                Rule::Spare(Match::Gid(2102)),
                Rule::Spare(Match::Loopback),
                Rule::Spare(Match::To(3306..=3306)),
                Rule::Spare(Match::To(6000..=6003)),
                Rule::Spare(Match::ToNet(net)),
                Rule::Redirect(4140),
            ]
        );
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let errors = plan(&[
            ("PROXY_UID", "root"),
            ("INBOUND_PORTS_TO_IGNORE", "80,,0"),
            ("SUBNETS_TO_IGNORE", "10.0.0.0/33"),
            ("FIREWALL", "ipchains"),
            ("OUTGOING_PROXY_PORT", "4143"),
        ])
        .unwrap_err();
        assert_eq!(errors.len(), 5, "{errors:#?}");
    }
}
