//! The authority of standalone mode: keys made on first start and kept, readable by the owner only, in the state folder.

use super::{
    Authority, Keys, csr,
    keys::{self, ends},
    rotation::Rotation,
};
use anyhow::{Context, bail};
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

impl Authority {
    /// Reads the authority from `state_dir`/ca, or makes it. Writes `state_dir`/trust-anchors.pem.
    pub fn open(
        state_dir: &Path,
        trust_domain: &str,
        leaf_lifetime: Duration,
        now: SystemTime,
    ) -> anyhow::Result<Authority> {
        let dir = state_dir.join("ca");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("making {}", dir.display()))?;
        let (root_key, root_pem) = match read_pair(&dir, "root")? {
            Some(pair) => pair,
            None => {
                let pair = keys::root(trust_domain, now)?;
                write_pair(&dir, "root", &pair)?;
                pair
            }
        };
        if ends(&root_pem).context("reading ca/root.pem")? <= now {
            bail!(
                "ca/root.pem in {} has expired (remove the folder ca to start a new trust domain)",
                state_dir.display()
            );
        }
        // An issuer of another root (the root's files were lost, say) would sign what nobody trusts.
        let kept = read_pair(&dir, "issuer")?.filter(|(_, pem)| is_signed_by(pem, &root_key));
        let mut keys = Keys {
            anchors_pem: root_pem,
            root_key_pem: Some(root_key),
            issuer_pem: String::new(),
            issuer_key_pem: String::new(),
            rotation: Rotation::None,
        };
        if let Some((key, pem)) = kept {
            (keys.issuer_key_pem, keys.issuer_pem) = (key, pem);
        }
        if keys.issuer_pem.is_empty() || keys.is_due(now)? {
            keys = keys.renewed(trust_domain, now)?;
            write_pair(&dir, "issuer", &(keys.issuer_key_pem.clone(), keys.issuer_pem.clone()))?;
        }
        write(&state_dir.join("trust-anchors.pem"), keys.anchors_pem.as_bytes(), 0o644)?;
        let authority = Authority::new(&keys, leaf_lifetime, now)?;
        Ok(authority.without_rotation(
            "in standalone mode, remove the folder ca of --state-dir and start again: that makes a new root, and proxies too start anew",
        ))
    }
}

/// Key and certificate. `None` where one of the two files is missing: the pair is then made anew.
fn read_pair(dir: &Path, name: &str) -> anyhow::Result<Option<(String, String)>> {
    let (key, cert) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.pem")));
    if !key.exists() || !cert.exists() {
        return Ok(None);
    }
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let key_pem = read(&key)?;
    let pair =
        KeyPair::from_pem(&key_pem).with_context(|| format!("{} holds no private key", key.display()))?;
    let pem = read(&cert)?;
    let is_pair = keys::is_pair(&pair, &pem);
    if !is_pair.with_context(|| format!("{} holds no certificate", cert.display()))? {
        bail!("{} is not the key of {} (restore both, or remove both)", key.display(), cert.display());
    }
    Ok(Some((key_pem, pem)))
}

fn is_signed_by(pem: &str, key: &str) -> bool {
    let Ok(key) = KeyPair::from_pem(key) else { return false };
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return false };
    let Ok((_, cert)) = x509_parser::parse_x509_certificate(&der) else { return false };
    csr::verify(key.public_key_raw(), cert.tbs_certificate.as_ref(), &cert.signature_value.data).is_ok()
}

fn write_pair(dir: &Path, name: &str, (key, cert): &(String, String)) -> anyhow::Result<()> {
    write(&dir.join(format!("{name}.key")), key.as_bytes(), 0o600)?;
    write(&dir.join(format!("{name}.pem")), cert.as_bytes(), 0o600)
}

/// Writes a whole file or nothing: who reads it while it changes sees the old one or the new one.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.partial"));
    let attempt = || -> std::io::Result<()> {
        let _ = fs::remove_file(&partial);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    attempt().with_context(|| format!("writing {}", path.display()))
}
