//! The authority of a cluster: root and issuer in a Secret of the operator's namespace, made by whichever replica comes first and
//! read by all, again whenever it changes. With a Secret of somebody else's (in cert-manager's form), only the reading.

use super::{
    backoff::Backoff,
    source::events,
    troubles::{Troubles, trouble},
};
use crate::ca::{
    Authority, Keys,
    rotation::{Phase, Root, Rotation, Step},
};
use anyhow::{Context, bail};
use futures_util::StreamExt;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::watcher::{self, Event},
};
use mesh_api::names;
use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, time};

/// Fields as cert-manager names them; the root's key is ours alone.
const ISSUER: &str = "tls.crt";
const ISSUER_KEY: &str = "tls.key";
const ANCHORS: &str = "ca.crt";
const ROOT_KEY: &str = "ca.key";
/// While the root is changed: how far that is, and the new one.
const ROTATION: &str = "rotation";
const NEXT_ROOT: &str = "next.crt";
const NEXT_ROOT_KEY: &str = "next.key";
/// Under this, what is wrong with the Secret is told.
const TROUBLES: &str = "identity";
const SPREADING: &str = "spreading";
const RENEWING: &str = "renewing";
/// A Secret that cannot be used is looked at again: its certificate may only be too new for our clock.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Which Secret, and what is made of it.
#[derive(Clone)]
pub struct Store {
    api: Api<Secret>,
    name: String,
    /// Whether we may make it and renew its issuer.
    ours: bool,
    trust_domain: String,
    leaf_lifetime: Duration,
    namespace: String,
    troubles: Troubles,
    kept: watch::Sender<Kept>,
}

/// The Secret as we know it.
#[derive(Clone, Default)]
struct Kept {
    good: Option<Secret>,
    /// Somebody has deleted it.
    is_gone: bool,
}

impl Store {
    pub fn new(
        client: Client,
        troubles: Troubles,
        namespace: &str,
        issuer_secret: Option<&str>,
        trust_domain: &str,
        leaf_lifetime: Duration,
    ) -> Store {
        Store {
            api: Api::namespaced(client, namespace),
            name: issuer_secret.unwrap_or(names::IDENTITY_SECRET).to_owned(),
            ours: issuer_secret.is_none(),
            trust_domain: trust_domain.to_owned(),
            leaf_lifetime,
            namespace: namespace.to_owned(),
            troubles,
            kept: watch::Sender::default(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Changes when the Secret comes, changes or goes.
    pub fn touched(&self) -> impl Future<Output = ()> + use<> {
        let mut kept = self.kept.subscribe();
        async move { drop(kept.changed().await) }
    }

    /// The authority to start with. Waits for the API server, and for a Secret that is somebody else's to make.
    pub async fn first(&self) -> Arc<Authority> {
        let mut delays = Backoff::api();
        let mut said = String::new();
        loop {
            match self.read_or_make(SystemTime::now()).await {
                Ok(authority) => return authority,
                Err(error) => {
                    let error = format!("{error:#}");
                    if error != said {
                        tracing::warn!(secret = self.name, error, "no authority yet; trying again");
                        said = error;
                    }
                    time::sleep(delays.next().unwrap_or(Duration::from_secs(1))).await;
                }
            }
        }
    }

    async fn read_or_make(&self, now: SystemTime) -> anyhow::Result<Arc<Authority>> {
        let mut kept = self.api.get_opt(&self.name).await.context("reading the Secret")?;
        // The issuer may have ended while nobody was here to renew it.
        let mut renewal = Ok(false);
        if let Some(secret) = kept.as_ref().filter(|_| self.ours)
            && keys(secret)?.is_due(now)?
        {
            renewal = self.renew(now).await;
            kept = self.api.get_opt(&self.name).await.context("reading the Secret again")?;
        }
        let secret = match kept {
            Some(secret) => secret,
            None if !self.ours => {
                bail!("there is no such Secret (who makes it is named in the values of the chart)")
            }
            None => {
                let made = secret(&self.name, &Keys::generate(&self.trust_domain, now)?);
                match self.api.create(&PostParams::default(), &made).await {
                    Ok(secret) => {
                        tracing::info!(secret = self.name, "root and issuer made");
                        secret
                    }
                    // Another replica was first: its keys count.
                    Err(kube::Error::Api(status)) if status.is_already_exists() => {
                        self.api.get(&self.name).await?
                    }
                    Err(error) => return Err(error).context("making the Secret"),
                }
            }
        };
        let authority = match (self.authority(&secret, now), renewal) {
            (Err(_), Err(error)) => return Err(error).context("renewing the issuer"),
            (authority, _) => authority?,
        };
        self.kept.send_replace(Kept { good: Some(secret), is_gone: false });
        Ok(authority)
    }

    fn authority(&self, secret: &Secret, now: SystemTime) -> anyhow::Result<Arc<Authority>> {
        let authority = Authority::new(&keys(secret)?, self.leaf_lifetime, now)?;
        Ok(Arc::new(match self.ours {
            true => authority,
            false => authority.without_rotation(
                "the issuer's Secret is somebody else's: give it a ca.crt with both roots, wait until every proxy has read it, \
                 then an issuer under the new one",
            ),
        }))
    }

    /// Publishes the authority of the Secret whenever it changes. One that cannot be used, or is gone, keeps the last good one.
    pub async fn follow(self, publish: watch::Sender<Arc<Authority>>) {
        let fields = format!("metadata.name={}", self.name);
        let config = watcher::Config::default().fields(&fields);
        let mut secrets = pin!(events(self.api.clone(), config));
        let mut listed = false;
        let mut refused = None;
        loop {
            let event = tokio::select! {
                event = secrets.next() => event,
                () = time::sleep(LOOK_AGAIN), if refused.is_some() => {
                    refused = refused.and_then(|secret| self.read(secret, true, &publish));
                    continue;
                }
            };
            match event {
                None => return,
                // A broken watch is begun again.
                Some(Err(_)) => {}
                Some(Ok(Event::Init)) => listed = false,
                Some(Ok(Event::InitApply(secret))) => {
                    listed = true;
                    refused = self.read(secret, false, &publish);
                }
                Some(Ok(Event::Apply(secret))) => refused = self.read(secret, false, &publish),
                Some(Ok(Event::InitDone)) if listed => {}
                Some(Ok(Event::InitDone | Event::Delete(_))) => {
                    refused = None;
                    self.miss();
                }
            }
        }
    }

    /// Publishes what the Secret holds, or returns it. `again`: what is wrong with it has been said.
    fn read(&self, secret: Secret, again: bool, publish: &watch::Sender<Arc<Authority>>) -> Option<Secret> {
        match self.authority(&secret, SystemTime::now()) {
            Ok(authority) => {
                let before = publish.borrow().clone();
                if *before != *authority {
                    tracing::info!(secret = self.name, "root or issuer has changed");
                    publish.send_replace(authority);
                }
                self.kept.send_replace(Kept { good: Some(secret), is_gone: false });
                self.troubles.set(TROUBLES, vec![]);
                None
            }
            Err(error) => {
                if !again {
                    let error = format!("{error:#}");
                    tracing::error!(
                        secret = self.name,
                        error,
                        "root or issuer is not usable; the last good one signs"
                    );
                    self.kept.send_modify(|kept| kept.is_gone = false);
                    let remedy = "correct it: an operator that starts now would sign nothing";
                    self.lacks(format!("is not usable, and the last good one signs: {error}"), remedy);
                }
                Some(secret)
            }
        }
    }

    fn miss(&self) {
        tracing::error!(secret = self.name, "the Secret is gone; the last good one signs");
        self.kept.send_modify(|kept| kept.is_gone = true);
        let remedy = match self.ours {
            true => {
                "the operator that leads writes it back; without it, one that starts makes a new root, which no proxy knows"
            }
            false => "make it again: an operator that starts now waits for it, and signs nothing",
        };
        self.lacks("is gone, and what it last held signs".into(), remedy);
    }

    fn lacks(&self, message: String, remedy: &str) {
        let object = format!("Secret {}/{}", self.namespace, self.name);
        self.troubles.set(TROUBLES, vec![trouble(object, message, remedy.into())]);
    }

    /// Writes back what somebody has deleted, where it is ours. Whether that was so.
    pub async fn restore(&self) -> anyhow::Result<bool> {
        let Kept { good, is_gone } = self.kept.borrow().clone();
        let Some(good) = good.filter(|_| is_gone && self.ours) else { return Ok(false) };
        let metadata = ObjectMeta {
            name: good.metadata.name,
            labels: good.metadata.labels,
            annotations: good.metadata.annotations,
            ..ObjectMeta::default()
        };
        match self.api.create(&PostParams::default(), &Secret { metadata, ..good }).await {
            Ok(_) => tracing::warn!(secret = self.name, "the Secret had been deleted, and is written back"),
            Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(false),
            Err(error) => return Err(error).context("writing the Secret back"),
        }
        // Until the watch says more.
        self.kept.send_modify(|kept| kept.is_gone = false);
        Ok(true)
    }

    /// Replaces the issuer when it ends soon. Two replicas that try at once do no harm: the second is refused.
    pub async fn renew(&self, now: SystemTime) -> anyhow::Result<bool> {
        if !self.ours {
            return Ok(false);
        }
        let Some(kept) = self.api.get_opt(&self.name).await? else { return Ok(false) };
        let old = keys(&kept)?;
        if !old.is_due(now)? {
            return Ok(false);
        }
        let renewed = old.renewed(&self.trust_domain, now)?;
        Authority::new(&renewed, self.leaf_lifetime, now).context("the new issuer")?;
        self.replace(kept, &renewed).await?;
        tracing::info!(secret = self.name, "issuer renewed");
        Ok(true)
    }

    /// Takes a step of the change to a new root. Does nothing where that is further than `phase` by now; of two replicas that
    /// try at once, the second is refused.
    pub async fn rotate(&self, phase: &Phase, step: Step, now: SystemTime) -> anyhow::Result<()> {
        let kept = self.api.get(&self.name).await?;
        let old = keys(&kept)?;
        if !self.ours || old.phase() != *phase {
            return Ok(());
        }
        let Some(next) = old.after(step, &self.trust_domain, now)? else { return Ok(()) };
        Authority::new(&next, self.leaf_lifetime, now).context("the new keys")?;
        self.replace(kept, &next).await?;
        tracing::info!(secret = self.name, ?step, "the root is being changed");
        Ok(())
    }

    /// Fails where the Secret has changed since it was read.
    async fn replace(&self, kept: Secret, keys: &Keys) -> kube::Result<()> {
        let mut replacement = Secret { data: secret(&self.name, keys).data, string_data: None, ..kept };
        if keys.rotation != Rotation::Asked
            && let Some(annotations) = &mut replacement.metadata.annotations
        {
            annotations.remove(names::ROTATE);
        }
        self.api.replace(&self.name, &PostParams::default(), &replacement).await.map(drop)
    }
}

pub(super) fn secret(name: &str, keys: &Keys) -> Secret {
    let mut data = BTreeMap::from([
        (ANCHORS.to_owned(), bytes(&keys.anchors_pem)),
        (ISSUER.to_owned(), bytes(&keys.issuer_pem)),
        (ISSUER_KEY.to_owned(), bytes(&keys.issuer_key_pem)),
    ]);
    data.extend(keys.root_key_pem.as_deref().map(|key| (ROOT_KEY.to_owned(), bytes(key))));
    let mut set = |name: &str, text: &str| drop(data.insert(name.to_owned(), bytes(text)));
    match &keys.rotation {
        Rotation::None | Rotation::Asked => {}
        Rotation::Spreading(root) => {
            set(ROTATION, SPREADING);
            set(NEXT_ROOT, &root.pem);
            set(NEXT_ROOT_KEY, &root.key_pem);
        }
        Rotation::Renewing { root_pem } => {
            set(ROTATION, RENEWING);
            set(NEXT_ROOT, root_pem);
        }
    }
    let labels = BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), "mesh".to_owned())]);
    Secret {
        metadata: ObjectMeta { name: Some(name.into()), labels: Some(labels), ..ObjectMeta::default() },
        data: Some(data),
        type_: Some("kubernetes.io/tls".into()),
        ..Secret::default()
    }
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

fn keys(secret: &Secret) -> anyhow::Result<Keys> {
    let field = |name: &str| -> anyhow::Result<Option<String>> {
        let value = secret.data.as_ref().and_then(|data| data.get(name));
        let text = value.map(|value| String::from_utf8(value.0.clone()));
        text.transpose().with_context(|| format!("{name} is no text"))
    };
    let needed = |name: &str| field(name)?.with_context(|| format!("it has no field {name}"));
    let annotations = secret.metadata.annotations.as_ref();
    let rotation = match field(ROTATION)?.as_deref() {
        Some(SPREADING) => {
            Rotation::Spreading(Root { key_pem: needed(NEXT_ROOT_KEY)?, pem: needed(NEXT_ROOT)? })
        }
        Some(RENEWING) => Rotation::Renewing { root_pem: needed(NEXT_ROOT)? },
        Some(other) => bail!("{ROTATION} is {other:?}: want {SPREADING} or {RENEWING}"),
        None if annotations.is_some_and(|all| all.contains_key(names::ROTATE)) => Rotation::Asked,
        None => Rotation::None,
    };
    Ok(Keys {
        anchors_pem: needed(ANCHORS)?,
        root_key_pem: field(ROOT_KEY)?,
        issuer_pem: needed(ISSUER)?,
        issuer_key_pem: needed(ISSUER_KEY)?,
        rotation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::ApiServer;

    #[test]
    fn what_is_kept_is_read_back_and_what_is_missing_is_named() {
        let made = Keys::generate("cluster.local", SystemTime::now()).unwrap();
        let kept = secret("mesh-identity", &made);
        assert!(keys(&kept).unwrap() == made);
        Authority::new(&made, Duration::from_secs(60), SystemTime::now()).unwrap();
        let mut foreign = kept.clone();
        foreign.data.as_mut().unwrap().remove("ca.key");
        assert!(keys(&foreign).unwrap().root_key_pem.is_none());
        foreign.data.as_mut().unwrap().remove("tls.key");
        assert_eq!(keys(&foreign).err().unwrap().to_string(), "it has no field tls.key");
    }

    const SECRETS: &str = "/api/v1/namespaces/mesh/secrets";

    fn store(server: &ApiServer, issuer: Option<&str>) -> Store {
        let life = Duration::from_secs(60);
        Store::new(server.client(), Troubles::default(), "mesh", issuer, "cluster.local", life)
    }

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    /// A cluster that slept, or a Secret from an old backup.
    #[tokio::test]
    async fn an_issuer_that_ended_while_nobody_was_there_is_made_anew_under_the_same_root() {
        let now = SystemTime::now();
        let old = Keys::generate("cluster.local", now - 400 * DAY).unwrap();
        for (issuer, works) in [(None, true), (Some("mesh-identity"), false)] {
            let server = ApiServer::new(&[]);
            server.put(SECRETS, serde_json::to_value(secret("mesh-identity", &old)).unwrap());
            let authority = store(&server, issuer).read_or_make(now).await;
            assert_eq!(authority.is_ok(), works, "one of somebody else's is not ours to renew");
            let Ok(authority) = authority else { continue };
            assert_eq!(authority.trust_anchors_pem(), old.anchors_pem);
            assert!(authority.issuer_ends() > now + 300 * DAY);
        }
    }

    /// cert-manager's certificates are valid from the second in which they are made, and clocks differ by some.
    #[tokio::test]
    async fn a_secret_that_is_too_new_is_taken_when_its_time_has_come() {
        let server = ApiServer::new(&[]);
        let first = Keys::generate("cluster.local", SystemTime::now()).unwrap();
        server.put(SECRETS, serde_json::to_value(secret("mesh-identity", &first)).unwrap());
        let store = store(&server, None);
        let mut troubles = store.troubles.watch();
        let (publish, mut authority) = watch::channel(store.first().await);
        let following = tokio::spawn(store.follow(publish));
        // Valid from some seconds later on, as we have it.
        let ahead = SystemTime::now() + crate::ca::CLOCK_SKEW + Duration::from_secs(4);
        let renewed = first.renewed("cluster.local", ahead).unwrap();
        server.put(SECRETS, serde_json::to_value(secret("mesh-identity", &renewed)).unwrap());
        let story = async {
            troubles.wait_for(|all| all.values().flatten().next().is_some()).await.unwrap();
            assert!(!authority.has_changed().unwrap());
            authority.changed().await.unwrap();
            troubles.wait_for(|all| all.values().flatten().next().is_none()).await.unwrap();
        };
        time::timeout(Duration::from_secs(60), story).await.unwrap();
        following.abort();
    }

    /// What a replica finds that has just taken the Lease.
    #[tokio::test]
    async fn a_rotation_is_kept_in_the_secret_step_by_step_and_taken_once() {
        let server = ApiServer::new(&[]);
        let store = |issuer| store(&server, issuer);
        let mut made = secret("mesh-identity", &Keys::generate("cluster.local", SystemTime::now()).unwrap());
        made.metadata.annotations = Some(BTreeMap::from([(names::ROTATE.into(), "please".into())]));
        server.put(SECRETS, serde_json::to_value(&made).unwrap());
        let read = async || store(None).read_or_make(SystemTime::now()).await.unwrap();
        for (phase, step, next) in [
            (Phase::Asked, Step::Begin, Phase::Spreading),
            (Phase::Spreading, Step::Switch, Phase::Renewing),
            (Phase::Renewing, Step::Finish, Phase::Idle),
        ] {
            assert_eq!(*read().await.phase(), phase);
            store(Some("mesh-identity")).rotate(&phase, step, SystemTime::now()).await.unwrap();
            assert_eq!(*read().await.phase(), phase, "a Secret of somebody else's is left alone");
            store(None).rotate(&phase, step, SystemTime::now()).await.unwrap();
            let after = read().await;
            assert_eq!(*after.phase(), next);
            store(None).rotate(&phase, step, SystemTime::now()).await.unwrap();
            assert!(*read().await == *after, "who comes second does nothing");
        }
        let kept: Secret = serde_json::from_value(server.object(SECRETS, "/mesh-identity")).unwrap();
        let mut fields: Vec<String> = kept.data.unwrap().into_keys().collect();
        fields.sort();
        assert_eq!(fields, [ANCHORS, ROOT_KEY, ISSUER, ISSUER_KEY], "nothing of the old root is left");
        let foreign = store(Some("mesh-identity")).read_or_make(SystemTime::now()).await.unwrap();
        assert!(matches!(foreign.phase(), Phase::Refused(why) if why.contains("somebody else's")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_is_gone_or_broken_is_told_and_the_last_good_one_signs() {
        for issuer in [None, Some("mesh-identity")] {
            let server = ApiServer::new(&[]);
            let keys = Keys::generate("cluster.local", SystemTime::now()).unwrap();
            let made = serde_json::to_value(secret("mesh-identity", &keys)).unwrap();
            server.put(SECRETS, made.clone());
            let troubles = Troubles::default();
            let mut told = troubles.watch();
            let life = Duration::from_secs(60);
            let store = Store::new(server.client(), troubles, "mesh", issuer, "cluster.local", life);
            let (publish, authority) = watch::channel(store.first().await);
            let following = tokio::spawn(store.clone().follow(publish));
            let mut says = async |words: &str| {
                let said = told.wait_for(|all| {
                    let mut all = all.values().flatten().map(ToString::to_string);
                    if words.is_empty() { all.next().is_none() } else { all.any(|own| own.contains(words)) }
                });
                time::timeout(life, said).await.expect(words).unwrap();
            };
            time::sleep(Duration::from_secs(1)).await;
            server.delete(SECRETS, "/mesh-identity");
            says("is gone").await;
            assert_eq!(store.restore().await.unwrap(), issuer.is_none(), "only our own is ours to write");
            assert!(!store.restore().await.unwrap());
            if issuer.is_none() {
                assert_eq!(server.written(SECRETS)[0]["data"], made["data"]);
            }
            server.put(SECRETS, made.clone());
            says("").await;
            let mut broken = made.clone();
            broken["data"]["tls.key"] = "".into();
            server.put(SECRETS, broken);
            says("not usable").await;
            server.put(SECRETS, made);
            says("").await;
            assert!(!authority.has_changed().unwrap());
            following.abort();
        }
    }

    #[test]
    fn keys_that_nobody_would_believe_are_refused() {
        let now = SystemTime::now();
        let [one, other] = [(); 2].map(|()| Keys::generate("cluster.local", now).unwrap());
        let refused =
            |keys: Keys| format!("{:#}", Authority::new(&keys, Duration::from_secs(60), now).unwrap_err());
        let swapped = Keys { issuer_key_pem: other.issuer_key_pem.clone(), ..one.clone() };
        assert!(refused(swapped).contains("not the one of its certificate"));
        let stranger = Keys { anchors_pem: other.anchors_pem.clone(), ..one.clone() };
        assert!(refused(stranger).contains("would not be believed"));
        let both = Keys { anchors_pem: format!("{}{}", other.anchors_pem, one.anchors_pem), ..one };
        Authority::new(&both, Duration::from_secs(60), now).unwrap();
    }
}
