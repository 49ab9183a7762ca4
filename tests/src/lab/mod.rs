//! Hosts as network namespaces on a common underlay, with real agents and machines.

mod agent;
mod dhcp_client;
mod host;
mod libvirt;
pub mod linux_bridge;
mod namespace;
pub mod open_vswitch;
mod pair;
mod ping;
mod plug;
mod process;
mod qos;
mod replicated;
mod routed;
mod security;
mod services;
mod stream;
mod topology;
mod trunk;
mod world;

use std::net::IpAddr;

use anyhow::{Context as _, Result};

pub use agent::{Agent, Lanes, overlane_binary};
pub use dhcp_client::Lease;
pub use host::{Host, Machine};
pub use libvirt::connect_as_libvirt_does;
pub use namespace::Namespace;
pub(crate) use namespace::execute;
pub use open_vswitch::OpenVSwitch;
pub use pair::{BY_INTERFACE, HOSTS, Pair, expect_blocked, nothing_to_do};
pub use plug::{Waiting, first_answer, now, plug_times};
pub use process::Process;
pub use qos::{QosPolicy, QosRule};
pub use replicated::Replicated;
pub use routed::Routed;
pub use security::{Connection, Rule, SecurityGroup, send_udp};
pub use services::{DhcpOption, FloatingIp, Instance, PortForwarding, Route, Router};
pub use stream::Stream;
pub use topology::{AddressPair, Network, Port, SubPort, Subnet, Topology, Trunk};
pub use trunk::TrunkMachine;
pub use world::World;

/// The interface of every host that leads to the underlay.
pub const UPLINK: &str = "eth1";
/// The interface that leads to the physical network, where there is one ([`Lab::wire`]).
pub const NIC: &str = "phys0";
/// The bridge in the fabric that these are connected to.
pub const OUTSIDE: &str = "outside";

/// Hosts that are connected by one Ethernet segment, their underlay.
///
/// The wire between them carries frames of wire size: segmentation offload ends at each [`UPLINK`], and the receiving
/// side may put segments together again, as with real NICs.
pub struct Lab {
    // Declared, and so dropped, before the world they are in.
    hosts: Vec<Host>,
    fabric: Namespace,
    world: World,
}

impl Lab {
    /// Hosts by name and underlay address, in a world of their own.
    ///
    /// # Errors
    /// When namespaces or devices cannot be made.
    pub fn new(hosts: &[(&str, &str)]) -> Result<Self> {
        Self::in_world(World::private()?, hosts)
    }

    /// As `new`, in the given world.
    ///
    /// # Errors
    /// As for `new`.
    pub fn in_world(world: World, hosts: &[(&str, &str)]) -> Result<Self> {
        let fabric = world.namespace("fabric")?;
        fabric.run("ip link add name segment type bridge")?;
        fabric.run("ip link set segment up")?;
        let mut lab = Self { hosts: Vec::new(), fabric, world };
        for (name, address) in hosts {
            let address: IpAddr = address.parse().with_context(|| format!("the address of {name}"))?;
            let host = Host::new(&lab.world, name, address)?;
            lab.connect(&host)?;
            lab.hosts.push(host);
        }
        Ok(lab)
    }

    /// Two hosts that one wire connects, with nothing between them: a bench measures what the hosts cost.
    ///
    /// # Errors
    /// As for `new`.
    pub fn back_to_back(world: World, hosts: &[(&str, &str); 2]) -> Result<Self> {
        let fabric = world.namespace("fabric")?;
        let host = |(name, address): &(&str, &str)| {
            let address: IpAddr = address.parse().with_context(|| format!("the address of {name}"))?;
            Host::new(&world, name, address)
        };
        let hosts = hosts.iter().map(host).collect::<Result<Vec<Host>>>()?;
        let [left, right] = &hosts[..] else { unreachable!("there are two") };
        left.run(&format!("ip link add {UPLINK} type veth peer name {UPLINK} netns {}", right.namespace.name()))?;
        for host in [left, right] {
            host.run(&format!("ip address add {} dev {UPLINK} nodad", prefix(host.local_ip)))?;
            host.run(&format!("ip link set {UPLINK} up"))?;
            host.run(&format!("ethtool --offload {UPLINK} tx off"))?;
        }
        // Which needs a peer that sends no superpackets.
        for host in [left, right] {
            host.run(&format!("ethtool --offload {UPLINK} gro on"))?;
        }
        Ok(Self { hosts, fabric, world })
    }

    /// The host called `name`.
    ///
    /// # Panics
    /// When there is none: a mistake in the test.
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name == name).expect("the test names a host of its lab")
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The underlay.
    pub fn fabric(&self) -> &Namespace {
        &self.fabric
    }

    /// The world that everything is in.
    pub fn world(&self) -> &World {
        &self.world
    }

    fn connect(&self, host: &Host) -> Result<()> {
        let port = format!("to-{}", host.name);
        let (underlay, fabric) = (&host.namespace, self.fabric.name());
        underlay.run(&format!("ip link add {UPLINK} type veth peer name {port} netns {fabric}"))?;
        underlay.run(&format!("ip address add {} dev {UPLINK} nodad", prefix(host.local_ip)))?;
        underlay.run(&format!("ip link set {UPLINK} up"))?;
        self.fabric.run(&format!("ip link set {port} master segment up"))?;
        underlay.run(&format!("ethtool --offload {UPLINK} tx off"))?;
        // A veth puts segments together again only if its peer does not send superpackets itself.
        self.fabric.run(&format!("ethtool --offload {port} tx off"))?;
        underlay.run(&format!("ethtool --offload {UPLINK} gro on"))?;
        Ok(())
    }

    /// Connects all hosts by a second wire, [`NIC`], to which the fabric's [`OUTSIDE`] belongs.
    ///
    /// # Errors
    /// When a device cannot be made.
    pub fn wire(&self) -> Result<()> {
        self.fabric.run(&format!("ip link add name {OUTSIDE} type bridge"))?;
        self.fabric.run(&format!("ip link set {OUTSIDE} up"))?;
        for host in &self.hosts {
            let peer = format!("phys-{}", host.name);
            host.run(&format!("ip link add {NIC} type veth peer name {peer} netns {}", self.fabric.name()))?;
            host.run(&format!("ip link set {NIC} up"))?;
            self.fabric.run(&format!("ip link set {peer} master {OUTSIDE} up"))?;
        }
        Ok(())
    }

    /// Lets superpackets cross the wire in one piece, as between machines of one NIC.
    ///
    /// # Errors
    /// When an offload cannot be switched on.
    pub fn carry_superpackets(&self) -> Result<()> {
        for host in &self.hosts {
            for (place, device) in [(&host.namespace, UPLINK.to_owned()), (&self.fabric, format!("to-{}", host.name))] {
                place.run(&format!("ethtool --offload {device} tx on tso on tx-udp-segmentation on"))?;
            }
        }
        Ok(())
    }
}

/// An address with the length of its network's prefix.
fn prefix(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 24 } else { 64 })
}
