//! Every address that will be needed, tried before anything is started: one sentence instead of fifteen logs.

use super::pods::Pod;
use crate::arguments::DemoOptions;
use anyhow::bail;
use mesh_api::names::{ADMIN_PORT, INBOUND_PORT, OUTBOUND_PORT};
use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpListener},
};

pub fn addresses_are_free(options: &DemoOptions, pods: &[Pod]) -> anyhow::Result<()> {
    is_free(options.dashboard_addr, "the dashboard", "choose another with --dashboard-addr")?;
    is_free(options.grpc_addr, "the operator", "choose another with --grpc-addr")?;
    for pod in pods {
        let ip = IpAddr::V4(pod.ip);
        let whose = format!("Pod {}", pod.name);
        let mut ports = pod.ports.clone();
        if pod.meshed {
            ports.extend([INBOUND_PORT, OUTBOUND_PORT, ADMIN_PORT]);
        }
        for port in ports {
            is_free(SocketAddr::new(ip, port), &whose, "change its status.podIP")?;
        }
        is_free(pod.application_addr(), &whose, "change its status.podIP")?;
    }
    Ok(())
}

fn is_free(addr: SocketAddr, whose: &str, remedy: &str) -> anyhow::Result<()> {
    match TcpListener::bind(addr) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            let port = addr.port();
            bail!(
                "{addr} (for {whose}) is taken: is another `mesh demo` running? end the process that \
                 `ss -ltnp sport = :{port}` shows, or {remedy}"
            )
        }
        Err(e) => bail!("{addr} (for {whose}) cannot be used: {e}; {remedy}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_named_with_the_remedy() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = holder.local_addr().unwrap();
        let message =
            is_free(addr, "the dashboard", "choose another with --dashboard-addr").unwrap_err().to_string();
        assert!(message.starts_with(&format!("{addr} (for the dashboard) is taken")), "{message}");
        assert!(message.ends_with(" shows, or choose another with --dashboard-addr"), "{message}");
    }
}
