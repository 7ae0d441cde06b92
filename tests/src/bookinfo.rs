//! BookInfo without `mesh demo`: the same operator, proxies and applications, started by the test so that it can choose the
//! operator's flags and own every process.

use crate::{
    binaries,
    demo::Manifests,
    mesh::Operator,
    pod::{Pod, Proxy},
    process::{Process, Start},
    wait::SOON,
};

const PORT: u16 = 9080;

/// Variables of an application.
type Env = &'static [(&'static str, &'static str)];

/// Name, service account, last number of the address, and environment of each application.
const WORKLOADS: [(&str, &str, u8, Env); 6] = [
    ("productpage-v1", "bookinfo-productpage", 1, &[]),
    ("details-v1", "bookinfo-details", 2, &[]),
    ("reviews-v1", "bookinfo-reviews", 3, &[("ENABLE_RATINGS", "false")]),
    ("reviews-v2", "bookinfo-reviews", 4, &[("STAR_COLOR", "black")]),
    ("reviews-v3", "bookinfo-reviews", 5, &[("STAR_COLOR", "red")]),
    ("ratings-v1", "bookinfo-ratings", 6, &[]),
];

#[derive(Debug)]
pub struct BookInfo {
    pub operator: Operator,
    pub proxies: Vec<Proxy>,
    pub applications: Vec<Process>,
}

impl BookInfo {
    /// Starts everything but readers; every request that asks for it is traced.
    pub async fn start(operator_flags: &[&str]) -> BookInfo {
        let operator = Operator::start_on(|dir| Manifests::at(dir).copy(), operator_flags).await;
        let mut proxies = vec![];
        let mut applications = vec![];
        for (name, account, number, env) in WORKLOADS {
            let pod = Pod {
                namespace: "bookinfo".into(),
                name: name.into(),
                service_account: account.into(),
                number,
                ports: vec![PORT],
            };
            proxies.push(operator.proxy(&pod).spawn());
            applications.push(application(&pod, env));
        }
        let reader = Pod {
            namespace: "bookinfo".into(),
            name: "traffic".into(),
            service_account: "traffic".into(),
            number: 7,
            ports: vec![PORT],
        };
        proxies.push(operator.proxy(&reader).spawn());
        for proxy in &proxies {
            proxy.ready(SOON).await;
        }
        BookInfo { operator, proxies, applications }
    }

    pub fn proxy(&self, pod: &str) -> &Proxy {
        let proxy = self.proxies.iter().find(|proxy| proxy.pod.name == pod);
        proxy.unwrap_or_else(|| panic!("BookInfo has no {pod}"))
    }
}

fn application(pod: &Pod, env: Env) -> Process {
    let role = pod.name.split('-').next().unwrap_or_default();
    let mut start = Start::new(&pod.name, binaries::path("mesh-demo")).arg(role);
    start = start.env("LISTEN", pod.app(PORT).to_string()).env("HOSTNAME", &pod.name);
    start = start.env("http_proxy", format!("http://{}", pod.outbound()));
    for (name, value) in env {
        start = start.env(name, value);
    }
    start.spawn()
}
