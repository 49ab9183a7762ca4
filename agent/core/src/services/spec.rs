//! What is wanted, as data.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use ipnet::IpNet;

use super::Translations;
use crate::model::{Mac, PortId};

/// The namespaces that a host should have, and the programs that serve all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// By name, as `ip netns` knows them.
    pub namespaces: BTreeMap<String, NamespaceSpec>,
    /// Programs in the host's own namespace.
    pub processes: BTreeMap<ProcessName, ProcessSpec>,
}

/// One namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceSpec {
    /// Kernel parameters as `sysctl` has them, with slashes: `net/ipv4/ip_forward`. Those of a link are set once it is there.
    pub sysctls: BTreeMap<String, String>,
    /// Its links besides `lo`, by name.
    pub links: BTreeMap<String, LinkSpec>,
    /// Its routes besides those that the kernel makes of addresses.
    pub routes: BTreeMap<IpNet, RouteSpec>,
    /// What says whether the moving addresses of its links, and its routes, are here; `None` where nothing moves and its routes always are.
    pub activity: Option<Activity>,
    /// Its packet filter, which also translates addresses.
    pub ruleset: Option<Ruleset>,
    /// The programs in it.
    pub processes: BTreeMap<ProcessName, ProcessSpec>,
    /// Who may have a lease of the DHCP server in it.
    pub reservations: Option<Reservations>,
}

/// Who may have a lease of a DHCP server, and what is to be known to have it forget those of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservations {
    /// The link at which it hears its clients.
    pub link: String,
    /// Its addresses of IPv4.
    pub servers: BTreeSet<Ipv4Addr>,
    /// Its file of leases.
    pub leases: PathBuf,
    /// Who may have which address.
    pub addresses: BTreeSet<(Mac, IpAddr)>,
    /// The subnets in which it gives out addresses: it hears nothing about any other.
    pub subnets: Vec<IpNet>,
    /// With more leases than so many it does not start.
    pub leases_max: u32,
}

/// What somebody else adds and removes together with all that moves: keepalived, on the active one of several hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The name of the link that has the address.
    pub link: String,
    /// The address that is there when, and only when, this host is the active one.
    pub address: IpNet,
}

/// A veth whose other end is a port's tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// The port.
    pub port: PortId,
    /// Its MAC address.
    pub mac: Mac,
    /// In bytes, of both ends.
    pub mtu: u32,
    /// Its addresses with the length of their prefix.
    pub addresses: BTreeSet<IpNet>,
    /// Those that it has besides where the namespace is active ([`Activity`]).
    pub moving: BTreeSet<IpNet>,
    /// Whether the neighbours are told of addresses that come (gratuitous ARP, unsolicited neighbour advertisement).
    pub announces: bool,
    /// Whether packets leave it with complete checksums, whoever is to read them: nobody finishes one on the way through bridges
    /// of the same host.
    pub finishes_checksums: bool,
}

/// A route, by its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// Where it leads; several of them take turns by flow.
    pub next_hops: BTreeSet<NextHop>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// The router; `None`: the destination is on the link.
    pub via: Option<IpAddr>,
    /// By which link, by name.
    pub link: String,
}

/// A table of nf_tables of the family `inet`. It is replaced whole, in one transaction, when it is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// The name of the table.
    pub table: String,
    /// What `nft --json` reads: the objects that make the table and all that is in it.
    pub json: String,
    /// What the table comes to: connections whose addresses are translated in another way are cut.
    pub translations: Translations,
}

/// What a program is to whom, unique on the host: it is written into its environment, by which it is found again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessName {
    /// The program, such as `dnsmasq`.
    pub program: String,
    /// For what: the id of a network or router.
    pub of: String,
}

/// The program that the agent is, in another role: of the same version.
pub const OWN_PROGRAM: &str = "overlane";

/// A program that must be running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// The program, to be found in `PATH`, or a path; [`OWN_PROGRAM`] is this one.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// A folder of its own, removed with it.
    pub folder: PathBuf,
    /// The files that it reads, by name in the folder.
    pub files: BTreeMap<String, FileSpec>,
}

/// A file that a program reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Its text.
    pub text: String,
    /// What another text means for the program.
    pub on_change: OnChange,
    /// Whether nobody else may read it.
    pub is_secret: bool,
}

/// What another text of a file means for the program that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChange {
    /// It is told by SIGHUP.
    Reload,
    /// It is started anew.
    Restart,
    /// It finds out by itself.
    Nothing,
    /// The file is the program's own to change: it is only written where there is none.
    Keep,
}

impl ProcessSpec {
    /// What the running program must have been started with, short: another fingerprint means another start.
    pub fn fingerprint(&self) -> String {
        let mut sha = sha1_smol::Sha1::new();
        // A zero byte is in none of these.
        let mut add = |part: &str| {
            sha.update(part.as_bytes());
            sha.update(&[0]);
        };
        add(&self.program);
        if self.program == OWN_PROGRAM {
            add(env!("CARGO_PKG_VERSION"));
        }
        self.args.iter().for_each(|arg| add(arg));
        for (name, file) in self.files.iter().filter(|(_, file)| file.on_change == OnChange::Restart) {
            add(name);
            add(&file.text);
        }
        short(&sha)
    }

    /// What a program must have read of the files of which it is told, short; `None` where there are none.
    pub fn files_fingerprint(&self) -> Option<String> {
        let told = self.files.iter().filter(|(_, file)| file.on_change == OnChange::Reload);
        let pieces: Vec<&[u8]> = told.flat_map(|(name, file)| [name.as_bytes(), file.text.as_bytes()]).collect();
        (!pieces.is_empty()).then(|| fingerprint_of(pieces))
    }

    /// Where is written what the program has read: an agent that is killed before it tells a program of its files is followed
    /// by one that sees that nobody has.
    pub fn files_read(&self) -> PathBuf {
        self.folder.join("files-read")
    }
}

impl Ruleset {
    /// By which the table that the kernel has is recognised.
    pub fn fingerprint(&self) -> String {
        fingerprint_of([self.json.as_bytes()])
    }
}

/// A short hash of several pieces of something, in order.
pub fn fingerprint_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut sha = sha1_smol::Sha1::new();
    for piece in pieces {
        sha.update(&(piece.len() as u64).to_be_bytes());
        sha.update(piece);
    }
    short(&sha)
}

/// As much of a hash as tells one version of something from the next.
const FINGERPRINT_CHARACTERS: usize = 16;

fn short(sha: &sha1_smol::Sha1) -> String {
    sha.digest().to_string()[..FINGERPRINT_CHARACTERS].to_owned()
}

impl LinkSpec {
    /// The name of the other end, in the host's own namespace.
    pub fn tap(&self) -> String {
        self.port.tap_name()
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.program, self.of)
    }
}
