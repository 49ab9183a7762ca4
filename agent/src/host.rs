//! The real host: kernel and datapath behind the one interface that the reconciler knows.

use std::{
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
    time::Instant,
};

use anyhow::Context as _;
use overlane_core::{
    action::{Action, KernelAction},
    config::{Config, FastPath},
    desired::Desired,
    observed::Observed,
};

use crate::{
    datapath::{Datapath, DatapathError, LoadSettings},
    kernel::{self, Changes, FdbChange, Kernel, Monitor},
    reconcile::{Host, Look},
};

/// This host.
pub struct LinuxHost {
    kernel: Kernel,
    monitor: Monitor,
    config: Config,
    fast_lane: FastLane,
}

enum FastLane {
    Off,
    On(Box<Datapath>),
    /// Wanted, but not to be had for the moment: tried again with every full pass.
    Unavailable {
        bpffs: PathBuf,
        settings: LoadSettings,
        reason: String,
    },
}

impl LinuxHost {
    /// Takes up whatever lane the configuration and the system allow, and logs which and why.
    ///
    /// # Errors
    /// When the fast path is to be off, but programs of an earlier agent cannot be detached.
    pub fn new((kernel, mut monitor): (Kernel, Monitor), config: &Config) -> anyhow::Result<Self> {
        let fast_lane = match config.fast_path {
            FastPath::Off => {
                Datapath::remove(&config.bpffs).context("detaching the programs of an earlier agent")?;
                tracing::info!("fast path off by configuration: the kernel lane carries everything");
                FastLane::Off
            }
            FastPath::Auto => FastLane::open(config.bpffs.clone(), load_settings(config)),
        };
        if config.multicast.is_some() {
            monitor.follow_learned();
        }
        Ok(Self { kernel, monitor, config: config.clone(), fast_lane })
    }
}

impl Host for LinuxHost {
    async fn observe(&mut self, desired: &Desired, look: Look, observed: &mut Observed) -> anyhow::Result<()> {
        let known = match look {
            Look::Everything => None,
            Look::Devices | Look::Nothing => Some(std::mem::take(observed)),
        };
        let (fdb, maps) = known.map(|known| (known.kernel.fdb, known.datapath)).unzip();
        let kernel = match fdb {
            Some(fdb) => self.kernel.observe_devices(desired, &self.config, fdb).await,
            None => self.kernel.observe(desired, &self.config).await,
        };
        observed.kernel = kernel.context("listing the kernel's state")?;
        observed.datapath = match &self.fast_lane {
            FastLane::On(datapath) => Some(datapath.observe(maps.flatten()).context("reading the pinned maps")?),
            FastLane::Off | FastLane::Unavailable { .. } => None,
        };
        Ok(())
    }

    async fn apply(&mut self, actions: &[&Action]) -> Vec<anyhow::Result<()>> {
        let mut results = Vec::with_capacity(actions.len());
        while let Some(action) = actions.get(results.len()) {
            let changes: Vec<FdbChange> =
                actions[results.len()..].iter().map_while(|action| fdb_change(action)).collect();
            if changes.is_empty() {
                results.push(self.apply_one(action).await);
            } else {
                results.extend(self.kernel.change_fdb(&changes).into_iter().map(|result| result.map_err(Into::into)));
            }
        }
        results
    }

    async fn changed(&mut self) -> Changes {
        self.monitor.changed().await
    }

    fn changed_by_now(&mut self) -> Changes {
        self.monitor.changed_by_now()
    }

    fn settled(&mut self) -> anyhow::Result<()> {
        match &mut self.fast_lane {
            FastLane::On(datapath) => datapath.settle().context("completing the datapath"),
            FastLane::Off | FastLane::Unavailable { .. } => Ok(()),
        }
    }

    fn fast_path(&self) -> String {
        match &self.fast_lane {
            FastLane::Off => "off".to_owned(),
            FastLane::On(_) => "on".to_owned(),
            FastLane::Unavailable { reason, .. } => reason.clone(),
        }
    }

    fn is_degraded(&self) -> bool {
        matches!(self.fast_lane, FastLane::Unavailable { .. })
    }

    fn look_closer(&mut self) {
        match &mut self.fast_lane {
            FastLane::Off => (),
            FastLane::On(datapath) => {
                if let Err(error) = datapath.look_for_dead_links() {
                    tracing::warn!(error = describe(error), "could not look for dead attachments");
                }
            }
            FastLane::Unavailable { bpffs, settings, reason } => match Datapath::open(bpffs, settings) {
                Ok(datapath) => {
                    tracing::info!("fast path available again");
                    self.fast_lane = FastLane::On(Box::new(datapath));
                }
                Err(error) => reason.clone_from(&describe(error)),
            },
        }
    }
}

/// The change of a kernel's FDB that an action is, if it is one.
fn fdb_change(action: &Action) -> Option<FdbChange> {
    match action {
        Action::Kernel(KernelAction::AddFdb(entry)) => Some(FdbChange::Add(*entry)),
        Action::Kernel(KernelAction::DeleteFdb(entry)) => Some(FdbChange::Delete(*entry)),
        _ => None,
    }
}

impl LinuxHost {
    async fn apply_one(&mut self, action: &Action) -> anyhow::Result<()> {
        let begun = Instant::now();
        match action {
            Action::Kernel(action) => self.kernel.apply(action).await?,
            Action::Datapath(action) => match &mut self.fast_lane {
                FastLane::On(datapath) => datapath.apply(action)?,
                FastLane::Off | FastLane::Unavailable { .. } => anyhow::bail!("the fast path is off"),
            },
        }
        tracing::debug!(%action, micros = begun.elapsed().as_micros() as u64, "applied");
        Ok(())
    }
}

impl FastLane {
    fn open(bpffs: PathBuf, settings: LoadSettings) -> Self {
        match Datapath::open(&bpffs, &settings) {
            Ok(datapath) => {
                tracing::info!(bpffs = %bpffs.display(), "fast path on: eBPF programs loaded, maps pinned");
                Self::On(Box::new(datapath))
            }
            Err(error) => {
                let reason = describe(error);
                tracing::error!(error = reason, "fast path unavailable: the kernel lane carries everything");
                Self::Unavailable { bpffs, settings, reason }
            }
        }
    }
}

fn describe(error: DatapathError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

fn load_settings(config: &Config) -> LoadSettings {
    let source_ports = config.vxlan.and_then(|vxlan| vxlan.source_ports);
    LoadSettings {
        // Without tunnels no packet is for their endpoint: nothing is sent to the unspecified address.
        local_vtep: config.local_ip().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        vxlan_port: config.vxlan.map_or(0, |vxlan| vxlan.udp_dstport),
        source_ports: source_ports.unwrap_or_else(kernel::local_port_range),
        logs: config.debug,
    }
}
