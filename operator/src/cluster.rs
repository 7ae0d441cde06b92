//! What differs on a cluster: objects come from the API server, tokens are reviewed by it, keys are kept in a Secret, proxies come
//! in over TLS, and one replica of several writes. All between these edges is the same as in standalone mode.

mod admin;
mod backoff;
mod bundle;
mod duties;
mod events;
mod leader;
pub(crate) mod leaf;
mod lease;
mod maps;
mod mirror;
mod prune;
pub(crate) mod reconcile;
pub mod review;
mod secret;
mod served;
mod settled;
mod source;
mod status;
#[cfg(test)]
pub(crate) mod testing;
mod troubles;
mod version;
mod webhook;
mod writes;

use crate::{
    accounts::Accounts,
    api::Login,
    ca::Authority,
    config::Config,
    edges::Edges,
    grpc::{Certificates, Door, Told},
    listen::listen,
    standing::Standing,
    telemetry,
    world::{Source, stores::Readers},
};
use anyhow::Context;
use kube::Client;
use mesh_api::names;
use mesh_charts::{inject, kubernetes::NATIVE_SIDECARS};
use mesh_policy::Tables;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time,
};
use troubles::Troubles;

/// An answer of the API server that does not come at all. Longer than its longest silence within a watch.
const READ_TIMEOUT: Duration = Duration::from_secs(75);

/// After SIGTERM, callers learn within this time that they should ask another replica. Until then we answer.
const LINGER: Duration = Duration::from_secs(3);

/// Longer than giving the Lease back may take.
const END: Duration = Duration::from_secs(5);

/// A connection to the API server, and what is done with it beside answering proxies.
pub struct Cluster {
    client: Client,
    store: secret::Store,
    authority: watch::Receiver<Arc<Authority>>,
    /// Whether this replica writes.
    hold: watch::Sender<bool>,
    standing: watch::Sender<Standing>,
    /// True from SIGTERM on.
    leaving: watch::Sender<bool>,
    readers: Readers,
    /// What there is to write the status of.
    served: watch::Sender<served::Served>,
    troubles: Troubles,
    /// They end with us.
    tasks: JoinSet<()>,
    /// Ends by itself after `stop`.
    lease: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Waits for the API server, and for an authority. Answers kubelet from the start.
    pub async fn connect(
        config: &Config,
        tables: watch::Receiver<Arc<Tables>>,
        readers: Readers,
        ready: watch::Receiver<bool>,
        certificates: Arc<Certificates>,
    ) -> anyhow::Result<Cluster> {
        let (hold, holding) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let listener = listen(config.admin_addr, "--admin-addr").await?;
        let known = Arc::<OnceLock<_>>::default();
        let (stand, standing) = watch::channel(Standing::default());
        let authority = known.clone();
        let admin = admin::Admin { ready, holding, standing, tables, certificates, authority };
        tasks.spawn(async {
            if let Err(error) = admin::serve(listener, admin).await {
                tracing::error!(%error, "the admin server has ended");
            }
        });
        let client = client().await?;
        let troubles = Troubles::default();
        let store = secret::Store::new(
            client.clone(),
            troubles.clone(),
            &config.namespace,
            config.issuer_secret.as_deref(),
            &config.trust_domain,
            config.leaf_lifetime,
        );
        let (publish, authority) = watch::channel(store.first().await);
        // There is none yet.
        let _ = known.set(authority.clone());
        tasks.spawn(store.clone().follow(publish));
        Ok(Cluster {
            client,
            store,
            authority,
            hold,
            standing: stand,
            leaving: watch::Sender::default(),
            readers,
            served: watch::Sender::default(),
            troubles,
            tasks,
            lease: None,
        })
    }

    /// Starts watching the cluster's objects.
    pub fn edges(&mut self, config: &Config, listener: TcpListener) -> anyhow::Result<Edges> {
        let name = config.settings().identities().of(&config.namespace, names::OPERATOR);
        let tls = leaf::start(self.authority.clone(), name, leaf::Peers::Proxies)?;
        // As many batches wait as the world takes to be built; then watches wait.
        let (sent, batches) = mpsc::channel(8);
        let (client, namespace) = (self.client.clone(), config.namespace.clone());
        let (served, troubles) = (self.served.clone(), self.troubles.watch());
        self.tasks.spawn(source::run(client, namespace, served, troubles, sent));
        Ok(Edges {
            batches,
            source: Source::Cluster(terms(config)),
            authority: self.authority.clone(),
            accounts: Accounts::Reviews(Arc::new(review::Reviewer::new(self.client.clone()))),
            door: Door::Tls(listener, tls),
            cluster: "kubernetes".into(),
            login: Login::cluster(self.client.clone()),
            standing: self.standing.subscribe(),
        })
    }

    /// Starts what needs a world: the webhook, and the duties of the replica that holds the Lease. Until `stop`.
    pub async fn work(
        &mut self,
        config: &Config,
        tables: watch::Receiver<Arc<Tables>>,
        telemetry: Arc<telemetry::Store>,
        told: Told,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let listener = listen(config.webhook_addr, "--webhook-addr").await?;
        let name = format!("{}.{}.svc", names::OPERATOR, config.namespace);
        let tls = leaf::start(self.authority.clone(), name, leaf::Peers::ApiServer)?;
        let maps = maps::Maps::watch(self.client.clone());
        let webhook = webhook::Webhook {
            readers: self.readers.clone(),
            maps: maps.clone(),
            settings: config.settings(),
            tables: tables.clone(),
            injector: self.injector(config).await?,
        };
        self.tasks.spawn(webhook::serve(listener, tls, webhook, self.leaving.subscribe()));
        let me = config.pod.clone().unwrap_or_else(|| format!("operator-{}", crate::random::hex::<4>()));
        let duties = duties::Duties {
            client: self.client.clone(),
            namespace: config.namespace.clone(),
            me: me.clone(),
            store: self.store.clone(),
            readers: self.readers.clone(),
            maps,
            terms: terms(config),
            served: self.served.subscribe(),
            troubles: self.troubles.clone(),
            tables,
            authority: self.authority.clone(),
            telemetry,
            told,
            holding: self.hold.subscribe(),
        };
        self.tasks.spawn(duties.run());
        let (client, namespace) = (self.client.clone(), config.namespace.clone());
        let (hold, standing) = (self.hold.clone(), self.standing.clone());
        let lease = lease::run(client, namespace, names::OPERATOR, me, hold, standing, stop);
        self.lease = Some(tokio::spawn(lease));
        Ok(())
    }

    async fn injector(&self, config: &Config) -> anyhow::Result<Option<webhook::Injector>> {
        let Some(file) = &config.injection else { return Ok(None) };
        let native_sidecars = version::oldest(&self.client).await? >= NATIVE_SIDECARS;
        webhook::Injector::open(file, inject::Cluster { native_sidecars }).map(Some)
    }

    /// We have been told to end. Whoever asks us meanwhile still gets an answer.
    pub async fn linger(&self) {
        self.leaving.send_replace(true);
        time::sleep(LINGER).await;
    }

    /// After `stop`: waits until the Lease is given back, so that another replica writes at once. For so long at most as an answer
    /// of the API server may take.
    pub async fn end(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        if time::timeout(END, lease).await.is_err() {
            tracing::info!("the Lease was not given back in time");
        }
    }
}

fn terms(config: &Config) -> reconcile::Terms {
    reconcile::Terms { control_namespace: config.namespace.clone(), restarts: !config.no_restarts }
}

/// As the environment says: a kubeconfig, else the service account of the Pod that we run in.
async fn client() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer()
        .await
        .context("finding the API server (is this a Pod, or is KUBECONFIG set?)")?;
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    Client::try_from(config).context("making a client of the API server")
}
