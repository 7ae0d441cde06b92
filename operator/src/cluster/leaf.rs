//! The operator's own certificates, by which proxies and the API server know that it is the operator: signed by its own authority
//! for keys made in memory, renewed before they end and whenever the authority changes.

use crate::ca::{self, Authority};
use anyhow::Context;
use rcgen::KeyPair;
use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, time};

/// After a renewal that failed.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Wall clocks jump: look at least this often whether the certificate still lives.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// What clocks are set back by without harm: certificates are made valid from a little before their making.
const SET_BACK: Duration = Duration::from_secs(10);

/// Who shakes hands.
#[derive(Clone, Copy, Debug)]
pub enum Peers {
    /// Over HTTP/2. Certificates are optional here: `Certify` is for those who have none yet, all others are sent away later.
    Proxies,
    /// Without a certificate, and over HTTP/2 where it can: a connection that ends says up to which request it has answered, so that
    /// the others are asked again elsewhere.
    ApiServer,
}

/// A configuration, and when to make it anew.
struct Made {
    config: Arc<ServerConfig>,
    at: SystemTime,
    due: SystemTime,
}

impl Made {
    /// By a clock that was set back it is not valid yet.
    fn is_due(&self, now: SystemTime) -> bool {
        now >= self.due || now + SET_BACK < self.at
    }
}

/// What to shake hands with, always the newest. `name` is what peers call the operator.
pub fn start(
    mut authority: watch::Receiver<Arc<Authority>>,
    name: String,
    peers: Peers,
) -> anyhow::Result<watch::Receiver<Arc<ServerConfig>>> {
    let first = authority.borrow_and_update().clone();
    let mut made = make(&first, &name, peers, SystemTime::now()).context("the operator's own certificate")?;
    let (publish, configs) = watch::channel(made.config.clone());
    tokio::spawn(async move {
        loop {
            let left = made.due.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::select! {
                () = time::sleep(left.min(LOOK_AGAIN)) => if !made.is_due(SystemTime::now()) { continue },
                changed = authority.changed() => if changed.is_err() { return },
                () = publish.closed() => return,
            }
            let newest = authority.borrow_and_update().clone();
            match make(&newest, &name, peers, SystemTime::now()) {
                Ok(renewed) => {
                    tracing::info!(identity = name, "own certificate renewed");
                    publish.send_replace(renewed.config.clone());
                    made = renewed;
                }
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "own certificate not renewed; trying again"
                    );
                    made.at = SystemTime::now();
                    made.due = made.at + TRY_AGAIN;
                }
            }
        }
    });
    Ok(configs)
}

fn make(authority: &Authority, name: &str, peers: Peers, now: SystemTime) -> anyhow::Result<Made> {
    let key = KeyPair::generate()?;
    let leaf = authority.issue(name, &key, now)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut chain = vec![CertificateDer::from(leaf.der)];
    chain.extend(leaf.intermediates.into_iter().map(CertificateDer::from));
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13])?;
    let mut config = match peers {
        Peers::Proxies => {
            let roots = ca::roots(authority.trust_anchors_pem())?;
            let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            config.with_client_cert_verifier(clients.allow_unauthenticated().build()?)
        }
        Peers::ApiServer => config.with_no_client_auth(),
    }
    .with_single_cert(chain, key)?;
    config.alpn_protocols = match peers {
        Peers::Proxies => vec![b"h2".to_vec()],
        Peers::ApiServer => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    // An identity is proved in every handshake.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let life = leaf.not_after.duration_since(now).unwrap_or_default();
    Ok(Made { config: Arc::new(config), at: now, due: now + life.mul_f64(0.7) })
}
