//! A real Neutron in namespaces: server, broker, database and agents from Debian's packages, which `cargo xtask` has unpacked
//! into a root of their own.

mod api;
mod bed;
mod broker;
mod cloud;
mod container;
mod files;
mod node;
mod peer;
mod resources;
mod routers;
mod server;
mod trunks;

use std::{env, path::PathBuf};

pub use bed::{Bed, PEER, host_of};
pub use broker::{Broker, LoneBroker};
pub use cloud::Cloud;
pub use container::{Container, in_root};
pub use files::PHYSICAL_NETWORK;
pub use node::{Agent, Node};
pub use peer::Peer;
pub use resources::Network;
pub use routers::Router;
pub use server::{Change, Server};

/// The underlay address of the controller: hosts reach server and broker by the wire that carries their tunnels.
pub const CONTROLLER: &str = "10.10.10.1";

/// The root that Neutron is unpacked in.
///
/// # Panics
/// When `cargo xtask` did not say where it is.
pub fn root() -> PathBuf {
    env::var_os("OVERLANE_NEUTRON_ROOT").expect("cargo xtask test neutron sets OVERLANE_NEUTRON_ROOT").into()
}
