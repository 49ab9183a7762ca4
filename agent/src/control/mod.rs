//! Control planes: each turns what it knows into a stream of [`overlane_core::update::Update`].

pub mod file;
pub mod neutron;

use std::sync::Arc;

use overlane_core::{
    config::{Config, Control},
    neutron::controller::HostView,
    services::Services,
    update::Update,
};
use tokio::sync::watch;

use crate::status::Status;
use file::TopologyFile;
use neutron::Neutron;

/// Where this host's agent hears what is desired.
pub enum ControlPlane {
    /// A topology file.
    File(TopologyFile),
    /// A Neutron server.
    Neutron(Box<Neutron>),
}

impl ControlPlane {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`overlane_core::problem::Problems`] in a topology file, or when it cannot be watched. A server that cannot be reached
    /// is no error: it is tried again.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        match &config.control {
            Control::File(topology) => TopologyFile::open(topology, config).map(Self::File),
            Control::Neutron(neutron) => Ok(Self::Neutron(Box::new(Neutron::start(neutron, config)))),
        }
    }

    /// Waits until something else is desired than before; at first, for anything. Cancelling loses nothing.
    pub async fn update(&mut self) -> Update {
        match self {
            Self::File(file) => file.update().await,
            Self::Neutron(neutron) => neutron.update().await,
        }
    }

    /// The DHCP servers, routers and the like that this host should have, as they change. With a Neutron server, its own agents
    /// make them.
    pub fn services(&self) -> Option<watch::Receiver<Arc<Services>>> {
        match self {
            Self::File(file) => Some(file.services()),
            Self::Neutron(_) => None,
        }
    }

    /// Takes in how the host is, if that is known and the control plane wants to know.
    pub fn host_changed(&mut self, view: impl FnOnce() -> Option<HostView>) {
        if let Self::Neutron(neutron) = self
            && let Some(view) = view()
        {
            neutron.host_changed(&view);
        }
    }

    /// Adds to what the agent says of itself.
    pub fn tell(&self, status: &mut Status) {
        match self {
            Self::File(_) => "topology file".clone_into(&mut status.control),
            Self::Neutron(neutron) => neutron.tell(status),
        }
    }

    /// Says goodbye.
    pub async fn stop(self) {
        match self {
            Self::File(_) => (),
            Self::Neutron(neutron) => neutron.stop().await,
        }
    }
}
