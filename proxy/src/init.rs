//! Redirects a pod's TCP connections to its proxy, before the application starts: `mesh-proxy init` does so and ends, `mesh-proxy start`
//! then gives its rights away and is the proxy.
//!
//! By nftables; where the kernel has none, by the legacy tables of iptables. Both are told by the kernel's own interfaces: no
//! program is run, so that an empty image will do. Needs the capability NET_ADMIN, nothing else.

mod error;
mod iptables;
mod netlink;
mod nftables;
mod plan;
mod sockopt;
mod step_down;
mod xtables;

use crate::config::{Errors, knobs, parse};
use anyhow::{Context as _, bail};
use error::Error;
use plan::{Family, Firewall, Plan, Rules};
use std::{collections::HashMap, path::Path};

/// There where the kernel speaks IPv6.
const IPV6: &str = "/proc/net/if_inet6";

/// Of these arguments, over the environment.
pub fn plan(arguments: &[&str]) -> Result<Plan, Errors> {
    let flags = flags(arguments)?;
    Plan::of(&|variable| flags.get(variable).cloned().or_else(|| std::env::var(variable).ok()))
}

/// Redirects, and says in one line per family what was done.
pub fn run(plan: &Plan, say: impl Fn(&str)) -> anyhow::Result<()> {
    for family in [Family::V4, Family::V6] {
        if family == Family::V6 && !plan.ipv6 {
            continue;
        }
        if family == Family::V6 && !Path::new(IPV6).exists() {
            say("IPv6: the kernel does not speak it, so there is nothing to redirect");
            continue;
        }
        let by = apply(plan.firewall, family, &plan.rules(family)).with_context(|| {
            let off = if family == Family::V6 { " (--ipv6=false leaves it alone)" } else { "" };
            format!("redirect {}{off}", family.name())
        })?;
        say(&format!("{}: connections are redirected to the proxy, by {by}", family.name()));
    }
    Ok(())
}

/// Redirects as root, and is the proxy's user from then on. To be called before there is a second thread.
pub fn run_and_step_down(plan: &Plan, say: impl Fn(&str)) -> anyhow::Result<()> {
    run(plan, say)?;
    step_down::to(plan.proxy_uid)
}

/// By which firewall.
fn apply(firewall: Firewall, family: Family, rules: &Rules) -> anyhow::Result<&'static str> {
    let missing = match firewall {
        Firewall::Iptables => None,
        Firewall::Nftables | Firewall::Auto => match nftables::apply(family, rules) {
            Ok(()) => return Ok("nftables"),
            Err(Error::Missing(missing)) if firewall == Firewall::Auto => Some(missing),
            Err(error) => return Err(error.into()),
        },
    };
    match (iptables::apply(family, rules), missing) {
        (Ok(()), _) => Ok("iptables"),
        (Err(error), None) => Err(error.into()),
        (Err(error), Some(missing)) => {
            bail!("neither by nftables: the kernel has no {missing}; nor by iptables: {error}")
        }
    }
}

/// `--proxy-uid 2102` or `--proxy-uid=2102`: each setting whose name begins with `INIT_` has its flag. By variable.
fn flags(arguments: &[&str]) -> Result<HashMap<String, String>, Errors> {
    let (mut flags, mut bad) = (HashMap::new(), Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let (flag, given) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (*argument, None),
        };
        let known = knobs::ALL.iter().find(|knob| knobs::flag(knob).is_some_and(|known| known == flag));
        let Some(knob) = known else {
            bad.push(format!("there is no {flag:?}: `mesh-proxy --help` says what there is"));
            continue;
        };
        match given.or_else(|| arguments.next().copied()) {
            Some(value) => {
                flags.insert(format!("{}{}", parse::OURS, knob.name), value.to_owned());
            }
            None => bad.push(format!("{flag}: want {}", knob.form)),
        }
    }
    if bad.is_empty() { Ok(flags) } else { Err(Errors(bad)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_settings() {
        let flags = flags(&["--proxy-uid", "1337", "--ipv6=false"]).unwrap();
        assert_eq!(flags["MESH_PROXY_INIT_PROXY_UID"], "1337");
        assert_eq!(flags["MESH_PROXY_INIT_IPV6"], "false");
    }

    #[test]
    fn a_flag_that_is_unknown_or_lacks_its_value_is_named() {
        let Err(Errors(errors)) = flags(&["--proxy-id=1", "--proxy-uid"]) else { panic!("taken") };
        assert!(errors[0].contains("--proxy-id") && errors[1].contains("--proxy-uid"), "{errors:?}");
    }
}
