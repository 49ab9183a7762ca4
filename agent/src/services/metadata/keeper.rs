//! Keeps sockets open where the state wants them: namespaces and interfaces come, go, and come again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use overlane_core::services::metadata::SocketKey;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    server::Service,
    sockets::{Identity, Opened, has_its_interface, open},
};

/// How soon it is noticed that a namespace or an interface has come, gone or been replaced. The kernel tells nobody of a bind mount
/// in `/run/netns`, and a look at a name costs a microsecond.
const INTERVAL: Duration = Duration::from_millis(250);
/// A socket that cannot be opened is complained about after so many attempts: what it needs may be in the making.
const PATIENCE: u32 = 8;

/// The sockets that are open.
pub(super) struct Keeper {
    service: Arc<Service>,
    open: HashMap<SocketKey, Listening>,
    failures: HashMap<SocketKey, u32>,
}

struct Listening {
    socket: Arc<TcpListener>,
    namespace: Identity,
    serving: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        // With its connections: a namespace that was deleted is there until the last of its sockets is closed.
        self.serving.abort();
    }
}

impl Listening {
    fn is_in_place(&self, key: &SocketKey) -> bool {
        Identity::of(&key.namespace) == Some(self.namespace)
            && key.interface.as_ref().is_none_or(|interface| has_its_interface(&*self.socket, interface))
    }
}

impl Keeper {
    pub(super) fn new(service: Arc<Service>) -> Self {
        Self { service, open: HashMap::new(), failures: HashMap::new() }
    }

    /// Waits until it is time to look again.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(INTERVAL).await;
    }

    /// Closes what is not wanted or out of place, and opens what is missing.
    pub(super) async fn keep(&mut self, wanted: BTreeSet<SocketKey>) {
        self.open.retain(|key, listening| {
            let stays = wanted.contains(key) && listening.is_in_place(key);
            if !stays {
                tracing::info!("no longer listening at {key}");
            }
            stays
        });
        self.failures.retain(|key, _| wanted.contains(key));
        let missing: Vec<SocketKey> = wanted.into_iter().filter(|key| !self.open.contains_key(key)).collect();
        if missing.is_empty() {
            return;
        }
        for (key, opened) in open(missing).await {
            match opened.and_then(|opened| self.listen(key.clone(), opened)) {
                Ok(listening) => {
                    tracing::info!("listening at {key}");
                    self.failures.remove(&key);
                    self.open.insert(key, listening);
                }
                Err(error) => self.complain(key, &error),
            }
        }
    }

    fn listen(&self, key: SocketKey, opened: Opened) -> anyhow::Result<Listening> {
        let socket = Arc::new(TcpListener::from_std(opened.listener)?);
        let serving = tokio::spawn(Arc::clone(&self.service).serve(Arc::clone(&socket), key));
        Ok(Listening { socket, namespace: opened.namespace, serving })
    }

    fn complain(&mut self, key: SocketKey, error: &anyhow::Error) {
        let attempts = self.failures.entry(key).or_default();
        *attempts = attempts.saturating_add(1);
        if *attempts == PATIENCE {
            tracing::warn!("{error:#}; it is tried again and again");
        }
    }
}
