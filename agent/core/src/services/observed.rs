//! What was found, as data.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use ipnet::IpNet;

use super::{ProcessName, RouteSpec};
use crate::model::Mac;

/// The services of one host as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedServices {
    /// Namespaces that are Overlane's, and others of names that are wanted, by name.
    pub namespaces: BTreeMap<String, ObservedNamespace>,
    /// Names of the host's own links.
    pub host_links: BTreeSet<String>,
    /// Those that are part of a bridge.
    pub connected: BTreeSet<String>,
    /// The programs that Overlane has started and that run, by what they are; more than one of a kind is one too many.
    pub processes: BTreeMap<ProcessName, Vec<ObservedProcess>>,
    /// Texts of the files that are wanted, where there are such files.
    pub files: BTreeMap<PathBuf, String>,
    /// Folders of programs that are not wanted any more.
    pub stray_folders: BTreeSet<PathBuf>,
}

/// One namespace as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedNamespace {
    /// Whether Overlane has made it.
    pub is_ours: bool,
    /// Its links besides `lo`, by name.
    pub links: BTreeMap<String, ObservedLink>,
    /// Routes of its main table that the kernel has not made of addresses, by destination.
    pub routes: BTreeMap<IpNet, RouteSpec>,
    /// The parameters that are wanted, as they are; none where the kernel does not have it.
    pub sysctls: BTreeMap<String, String>,
    /// The fingerprint that the ruleset's table carries, and whether anything has been changed since it was put there.
    pub ruleset: Option<String>,
}

/// One link as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedLink {
    /// Its MAC address.
    pub mac: Option<Mac>,
    /// In bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Addresses with the length of their prefix, but for link-local ones that the kernel has made.
    pub addresses: BTreeSet<IpNet>,
}

/// A program that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedProcess {
    /// Its process id.
    pub pid: u32,
    /// What it was started with ([`super::ProcessSpec::fingerprint`]).
    pub fingerprint: String,
}
