//! A real Neutron in namespaces: server, broker, database and agents from Debian's packages, which `cargo xtask` has unpacked
//! into a root of their own.

mod broker;
mod container;

use std::{env, path::PathBuf};

pub use broker::{Broker, LoneBroker};
pub use container::Container;

/// The root that Neutron is unpacked in.
///
/// # Panics
/// When `cargo xtask` did not say where it is.
pub fn root() -> PathBuf {
    env::var_os("OVERLANE_NEUTRON_ROOT").expect("cargo xtask test neutron sets OVERLANE_NEUTRON_ROOT").into()
}
