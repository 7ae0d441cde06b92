//! A certificate that is made when the server starts, and that only who does not look at it believes: kubelet, for one.

use anyhow::{Context, Result};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

pub fn acceptor() -> Result<TlsAcceptor> {
    let made =
        rcgen::generate_simple_self_signed(["mesh-e2e-app".to_owned()]).context("make a certificate")?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("choose versions of TLS")?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .context("serve with a certificate of our own")?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
