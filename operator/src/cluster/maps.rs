//! The trust bundles that there are, in all namespaces, as a watch knows them.

use super::{
    bundle::{Bundle, Kept},
    source::events,
};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{
        reflector::{self, ObjectRef},
        watcher::{self, Event},
    },
};
use mesh_api::names;
use std::{pin::pin, time::Duration};
use tokio::{sync::watch, time};

#[derive(Clone, Debug)]
pub struct Maps {
    store: reflector::Store<ConfigMap>,
    /// True once they have been listed.
    changed: watch::Receiver<bool>,
}

impl Maps {
    /// The watch ends when nobody looks any more.
    pub fn watch(client: Client) -> Maps {
        let (store, mut writer) = reflector::store();
        let (touch, changed) = watch::channel(false);
        tokio::spawn(async move {
            let fields = format!("metadata.name={}", names::TRUST_ANCHORS_CONFIG_MAP);
            let config = watcher::Config::default().fields(&fields);
            let mut events = pin!(events(Api::<ConfigMap>::all(client), config));
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = touch.closed() => return,
                };
                let Some(Ok(event)) = event else { continue };
                writer.apply_watcher_event(&event);
                let listed = matches!(event, Event::InitDone);
                touch.send_modify(|before| *before |= listed);
            }
        });
        Maps { store, changed }
    }

    pub fn changed(&self) -> watch::Receiver<bool> {
        self.changed.clone()
    }

    /// `None` until they have been listed.
    pub fn kept(&self) -> Option<Kept> {
        self.changed.borrow().then(|| {
            let maps = self.store.state();
            maps.iter().filter_map(|map| Some((map.metadata.namespace.clone()?, Bundle::of(map)))).collect()
        })
    }

    /// Waits until a Namespace has one, for so long at most.
    pub async fn wait_for(&self, namespace: &str, patience: Duration) {
        let map = ObjectRef::new(names::TRUST_ANCHORS_CONFIG_MAP).within(namespace);
        let mut changed = self.changed.clone();
        let there = async { while self.store.get(&map).is_none() && changed.changed().await.is_ok() {} };
        let _ = time::timeout(patience, there).await;
    }

    /// As if these namespaces had one.
    #[cfg(test)]
    pub fn of(namespaces: &[&str]) -> Maps {
        let (store, mut writer) = reflector::store();
        for namespace in namespaces {
            let mut map = ConfigMap::default();
            map.metadata.name = Some(names::TRUST_ANCHORS_CONFIG_MAP.into());
            map.metadata.namespace = Some((*namespace).into());
            writer.apply_watcher_event(&Event::Apply(map));
        }
        Maps { store, changed: watch::channel(true).1 }
    }
}
