//! The authority of a cluster: root and issuer in a Secret of the operator's namespace, made by whichever replica comes first and
//! read by all, again whenever it changes. With a Secret of somebody else's (in cert-manager's form), only the reading.

use super::{backoff::Backoff, source::events};
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
    runtime::{WatchStreamExt, watcher},
};
use mesh_api::names;
use std::{
    collections::BTreeMap,
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
const SPREADING: &str = "spreading";
const RENEWING: &str = "renewing";

/// Which Secret, and what is made of it.
#[derive(Clone)]
pub struct Store {
    api: Api<Secret>,
    name: String,
    /// Whether we may make it and renew its issuer.
    ours: bool,
    trust_domain: String,
    leaf_lifetime: Duration,
}

impl Store {
    pub fn new(
        client: Client,
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
        }
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
        let kept = self.api.get_opt(&self.name).await.context("reading the Secret")?;
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
        self.authority(&secret, now)
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

    /// Publishes the authority of the Secret whenever it changes. One that cannot be used keeps the last good one.
    pub async fn follow(self, publish: watch::Sender<Arc<Authority>>) {
        let fields = format!("metadata.name={}", self.name);
        let config = watcher::Config::default().fields(&fields);
        let mut secrets = pin!(events(self.api.clone(), config).touched_objects());
        while let Some(secret) = secrets.next().await {
            // A broken watch is begun again.
            let Ok(secret) = secret else { continue };
            match self.authority(&secret, SystemTime::now()) {
                Ok(authority) => {
                    let before = publish.borrow().clone();
                    if *before != *authority {
                        tracing::info!(secret = self.name, "root or issuer has changed");
                        publish.send_replace(authority);
                    }
                }
                Err(error) => tracing::error!(
                    secret = self.name,
                    error = format!("{error:#}"),
                    "root or issuer is not usable; the last good one signs"
                ),
            }
        }
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
        self.replace(kept, &old.renewed(&self.trust_domain, now)?).await?;
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

    /// What a replica finds that has just taken the Lease.
    #[tokio::test]
    async fn a_rotation_is_kept_in_the_secret_step_by_step_and_taken_once() {
        let server = ApiServer::new(&[]);
        let store =
            |issuer| Store::new(server.client(), "mesh", issuer, "cluster.local", Duration::from_secs(60));
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
