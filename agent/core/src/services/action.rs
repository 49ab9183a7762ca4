//! Steps, as data.

use std::{fmt, path::PathBuf};

use ipnet::IpNet;

use super::{LinkSpec, ProcessName, ProcessSpec, Reservations, RouteSpec, Ruleset, dhcp::leases::Lease};

/// One step. Every step is idempotent: made-already and gone-already are success. Links are named, not numbered: within a
/// namespace nobody else gives names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceAction {
    /// Make a namespace, with `lo` up and marked.
    CreateNamespace,
    /// Delete a namespace, with all links in it. The programs in it have ended.
    DeleteNamespace,
    /// Set a kernel parameter.
    SetParameter {
        /// As `sysctl` has it, with slashes.
        name: String,
        /// To what.
        value: String,
    },
    /// Make a link, its tap, and set both up.
    CreateLink {
        /// Its name.
        name: String,
        /// All about it; its addresses come later.
        spec: LinkSpec,
    },
    /// Delete a link, and its tap with it.
    DeleteLink {
        /// Its name.
        name: String,
    },
    /// Set a link up.
    SetUp {
        /// Its name.
        name: String,
    },
    /// Change the MTU of a link and its tap.
    SetMtu {
        /// Its name.
        name: String,
        /// The tap's.
        tap: String,
        /// In bytes.
        mtu: u32,
    },
    /// Give a link an address, and tell the neighbours if they should know.
    AddAddress {
        /// The name of the link.
        link: String,
        /// With the length of its prefix.
        address: IpNet,
        /// Whether the neighbours are told.
        announce: bool,
    },
    /// Take an address from a link.
    DeleteAddress {
        /// The name of the link.
        link: String,
        /// With the length of its prefix.
        address: IpNet,
    },
    /// Add or replace a route.
    SetRoute {
        /// Where to.
        destination: IpNet,
        /// How.
        route: RouteSpec,
        /// Whether it is keepalived that removes it.
        moves: bool,
    },
    /// Delete a route.
    DeleteRoute {
        /// Where to.
        destination: IpNet,
    },
    /// Put a table in the place of the one of its name.
    SetRuleset(Ruleset),
    /// Delete the table that was put there.
    DeleteRuleset,
    /// Write a file.
    WriteFile {
        /// Where.
        path: PathBuf,
        /// What.
        text: String,
        /// Whether nobody else may read it.
        is_secret: bool,
    },
    /// Start a program.
    Start {
        /// What it is.
        name: ProcessName,
        /// How.
        spec: ProcessSpec,
    },
    /// Have a program read its files again.
    Reload {
        /// What it is.
        name: ProcessName,
        /// Its process id.
        pid: u32,
    },
    /// End a program.
    Stop {
        /// What it is.
        name: ProcessName,
        /// Its process id.
        pid: u32,
    },
    /// Have a DHCP server forget leases.
    ReleaseLeases {
        /// Where it hears its clients, and what it has given out.
        from: Reservations,
        /// Which.
        leases: Vec<Lease>,
    },
    /// Write the leases file of a DHCP server that does not run without what is nobody's.
    DropLeases {
        /// Where it is, and who may have what.
        from: Reservations,
    },
    /// Remove what a program has left.
    RemoveFolder {
        /// Where.
        folder: PathBuf,
    },
}

impl fmt::Display for ServiceAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateNamespace => f.write_str("make the namespace"),
            Self::DeleteNamespace => f.write_str("delete the namespace"),
            Self::SetParameter { name, value } => write!(f, "set {name} to {value}"),
            Self::CreateLink { name, spec } => write!(f, "make {name}, the other end of {}", spec.tap()),
            Self::DeleteLink { name } => write!(f, "delete {name} and its tap"),
            Self::SetUp { name } => write!(f, "set {name} up"),
            Self::SetMtu { name, tap, mtu } => write!(f, "set the MTU of {name} and {tap} to {mtu}"),
            Self::AddAddress { link, address, .. } => write!(f, "add {address} to {link}"),
            Self::DeleteAddress { link, address } => write!(f, "remove {address} from {link}"),
            Self::SetRoute { destination, route, .. } => write!(f, "route {destination} {route}"),
            Self::DeleteRoute { destination } => write!(f, "remove the route to {destination}"),
            Self::SetRuleset(ruleset) => write!(f, "put the nftables table {} in place", ruleset.table),
            Self::DeleteRuleset => f.write_str("delete the nftables table"),
            Self::WriteFile { path, .. } => write!(f, "write {}", path.display()),
            Self::Start { name, .. } => write!(f, "start {name}"),
            Self::Reload { name, pid } => write!(f, "have {name} (process {pid}) read its files again"),
            Self::Stop { name, pid } => write!(f, "end {name} (process {pid})"),
            Self::ReleaseLeases { leases, .. } => {
                let addresses: Vec<String> = leases.iter().map(|lease| lease.address().to_string()).collect();
                write!(f, "release the leases of {}", addresses.join(", "))
            }
            Self::DropLeases { from } => write!(f, "drop leases that are nobody's from {}", from.leases.display()),
            Self::RemoveFolder { folder } => write!(f, "remove {}", folder.display()),
        }
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, hop) in self.next_hops.iter().enumerate() {
            if index > 0 {
                f.write_str(" and ")?;
            }
            if let Some(via) = hop.via {
                write!(f, "via {via} ")?;
            }
            write!(f, "on {}", hop.link)?;
        }
        Ok(())
    }
}
