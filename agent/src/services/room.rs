//! One namespace, with a netlink connection inside.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use anyhow::Context as _;
use overlane_core::services::{NamespaceSpec, ObservedNamespace};
use tokio::{sync::mpsc, task::JoinHandle};

use super::ruleset;
use crate::kernel::{self, Kernel, Namespace};

/// A namespace that is watched for as long as this lives.
pub(super) struct Room {
    pub(super) namespace: Namespace,
    pub(super) kernel: Kernel,
    watching: JoinHandle<()>,
    /// As it was found last; `None` when something has changed since.
    observed: Option<ObservedNamespace>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Room {
    /// Enters a namespace; its name is sent whenever something in it changes.
    pub(super) fn enter(namespace: Namespace, changes: &mpsc::UnboundedSender<String>) -> anyhow::Result<Self> {
        let name = namespace.name().to_owned();
        let (kernel, mut monitor) = namespace.inside(Kernel::connect).with_context(|| format!("entering {name}"))??;
        let changes = changes.clone();
        let watching = tokio::spawn(async move {
            loop {
                monitor.changed().await;
                if changes.send(name.clone()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { namespace, kernel, watching, observed: None })
    }

    /// Forgets what was found.
    pub(super) fn has_changed(&mut self) {
        self.observed = None;
    }

    /// What is in it, as far as it matters for what is wanted.
    pub(super) async fn observe(
        &mut self,
        wanted: Option<&NamespaceSpec>,
        owner: &str,
    ) -> anyhow::Result<ObservedNamespace> {
        let parameters: BTreeSet<&String> = wanted.iter().flat_map(|wanted| wanted.sysctls.keys()).collect();
        if let Some(observed) = &self.observed
            && observed.sysctls.keys().collect::<BTreeSet<_>>() == parameters
        {
            return Ok(observed.clone());
        }
        let inner = self.kernel.list_inner(owner).await?;
        let read = || -> anyhow::Result<(BTreeMap<String, String>, Option<String>)> {
            let sysctls =
                parameters.iter().filter_map(|name| Some(((*name).clone(), kernel::parameter(name)?))).collect();
            Ok((sysctls, ruleset::fingerprint().context("looking at nf_tables")?))
        };
        let (sysctls, ruleset) = self.namespace.inside(read)??;
        let observed =
            ObservedNamespace { is_ours: inner.is_ours, links: inner.links, routes: inner.routes, sysctls, ruleset };
        self.observed = Some(observed.clone());
        Ok(observed)
    }

    /// Sets a kernel parameter.
    pub(super) fn set_parameter(&self, name: &str, value: &str) -> io::Result<()> {
        self.namespace.inside(|| kernel::set_parameter(name, value))?
    }
}
