//! Whom the node's components trust: one certificate authority, and for each component a certificate that says who it is, in the
//! names by which Kubernetes' own rules know them. Made anew at every start.

use super::Node;
use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use std::{fs, iter, net::IpAddr, os::unix::fs::OpenOptionsExt, path::Path};
use time::{Duration, OffsetDateTime};

/// Longer than any node of ours lives.
const LIFE: Duration = Duration::days(30);
/// A story may turn the clock back.
const BEFORE: Duration = Duration::days(2);

/// Who has a certificate: file, common name, group.
const CLIENTS: [(&str, &str, Option<&str>); 6] = [
    ("admin", "admin", Some("system:masters")),
    ("apiserver-kubelet-client", "apiserver-kubelet-client", Some("system:masters")),
    ("kube-controller-manager", "system:kube-controller-manager", None),
    ("kube-scheduler", "system:kube-scheduler", None),
    ("kube-proxy", "system:kube-proxy", None),
    ("front-proxy-client", "front-proxy-client", None),
];

/// Writes everything to `pki/`.
pub fn write(node: &Node) -> Result<()> {
    let dir = node.path("pki");
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let authority = Authority::new()?;
    fs::write(dir.join("ca.crt"), &authority.pem).context("write the node's authority")?;
    save_key(&dir.join("ca.key"), &authority.issuer.key().serialize_pem())?;
    for (file, name, group) in CLIENTS {
        authority.sign(&dir, file, name, group, &[])?;
    }
    // A kubelet serves with the certificate that it calls with.
    for kubelet in iter::once(node.clone()).chain(node.others()) {
        let (host, address) = (kubelet.host(), kubelet.address().to_string());
        let name = format!("system:node:{host}");
        authority.sign(&dir, &host, &name, Some("system:nodes"), &[&host, &address])?;
    }
    let address = node.address().to_string();
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        &address,
        // The Service of that name.
        "10.96.0.1",
    ];
    authority.sign(&dir, "kube-apiserver", "kube-apiserver", None, &names)?;

    // Tokens of service accounts.
    let key = KeyPair::generate().context("make a key")?;
    save_key(&dir.join("service-account.key"), &key.serialize_pem())?;
    fs::write(dir.join("service-account.pub"), key.public_key_pem()).context("write a public key")
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Result<Authority> {
        let mut params = params("mesh-cluster", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("make a key")?;
        let pem = params.self_signed(&key).context("sign the node's authority")?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), pem })
    }

    fn sign(&self, dir: &Path, file: &str, name: &str, group: Option<&str>, hosts: &[&str]) -> Result<()> {
        let mut params = params(name, group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !hosts.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            for host in hosts {
                let name = || (*host).try_into().with_context(|| format!("{host:?} is no host's name"));
                params.subject_alt_names.push(match host.parse::<IpAddr>() {
                    Ok(address) => SanType::IpAddress(address),
                    Err(_) => SanType::DnsName(name()?),
                });
            }
        }
        let key = KeyPair::generate().context("make a key")?;
        let certificate = params.signed_by(&key, &self.issuer).with_context(|| format!("sign {file}"))?;
        fs::write(dir.join(format!("{file}.crt")), certificate.pem())
            .with_context(|| format!("write {file}"))?;
        save_key(&dir.join(format!("{file}.key")), &key.serialize_pem())
    }
}

fn params(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BEFORE;
    params.not_after = now + LIFE;
    params
}

fn save_key(path: &Path, pem: &str) -> Result<()> {
    use std::io::Write;
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("create {}", path.display()))?;
    file.write_all(pem.as_bytes()).with_context(|| format!("write {}", path.display()))
}
