//! The reference deployment: a controller and two compute hosts, two tenant networks, a router between them and to the outside.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use overlane_core::topology::{Role, Topology};
use overlane_tests::lab::{Agent, Host, Lab, Lanes, Lease, Machine, Port, World};

/// Everything about it, as its agents read it.
const REFERENCE: &str = include_str!("reference.toml");

/// Hosts and their underlay addresses.
pub(crate) const HOSTS: [(&str, &str); 3] =
    [("controller", "10.10.10.10"), ("compute1", "10.10.10.11"), ("compute2", "10.10.10.12")];

/// The controller's NIC on the physical network `provider`: unnumbered.
const EXTERNAL_NIC: &str = "ens224";
/// What is beyond: a router of the data centre.
pub(crate) const OUTSIDE: &str = "10.62.227.1";
/// A host of the internet, which knows nothing of the tenants' networks.
pub(crate) const INTERNET: &str = "203.0.113.10";
/// The floating IP of `app1`.
pub(crate) const FLOATING_IP: &str = "10.62.227.160";

/// The namespaces of the controller.
pub(crate) const NAMESPACES: [&str; 4] = [
    "qdhcp-85925305-b477-4cc6-9654-67d9bf1e7cd8",
    "qdhcp-96609bfa-0e22-4bb7-8dba-6ef532ea6076",
    "qdhcp-971ffda2-e567-40a0-a2c8-b31a577fd4d3",
    ROUTER,
];
/// The router.
pub(crate) const ROUTER: &str = "qrouter-39a77439-8a28-49c1-bf97-ac931510631b";

/// What `brctl show` says on the controller of the reference deployment, with the taps that its port list and its routing table
/// have besides: tap16d9b0cc-38, tap124ff148-b7 and tap795e6e86-94.
pub(crate) const CONTROLLER_BRIDGES: [(&str, &[&str]); 3] = [
    ("brq85925305-b4", &["tap0bb8efeb-10", "tap798c87d1-a2", "vxlan-25"]),
    ("brq96609bfa-0e", &["ens224", "tap124ff148-b7", "tap60dbdc2f-a0", "tap795e6e86-94"]),
    ("brq971ffda2-e5", &["tap16d9b0cc-38", "tapb1eaae00-e5", "tapf70543dd-0f", "vxlan-10"]),
];

/// The routing table of the reference deployment's router: destination, next hop and link.
pub(crate) const ROUTES: [(&str, Option<&str>, &str); 7] = [
    ("default", Some("10.62.227.1"), "qg-60dbdc2f-a0"),
    ("10.62.227.0/24", None, "qg-60dbdc2f-a0"),
    ("10.62.228.0/24", None, "qg-60dbdc2f-a0"),
    ("10.62.228.0/24", None, "qr-124ff148-b7"),
    ("10.0.0.0/24", None, "qr-b1eaae00-e5"),
    ("11.0.0.0/24", None, "qr-16d9b0cc-38"),
    ("20.0.0.0/24", None, "qr-0bb8efeb-10"),
];

/// The port that is plugged over and over to see how fast that is.
pub(crate) const PROBE: &str = "probe";

/// The running deployment.
pub(crate) struct Deployment {
    // Ends before the lab that it is in, from top to bottom.
    agents: Vec<Agent>,
    pub(crate) machines: Vec<Machine>,
    /// What each machine was given when it asked.
    pub(crate) leases: Vec<Lease>,
    pub(crate) lab: Lab,
    pub(crate) probe: Port,
    topology: PathBuf,
    reference: Topology,
}

impl Deployment {
    /// Sets everything up: hosts, agents, and then machines, as in a cloud.
    pub(crate) fn new(world: World) -> Result<Self> {
        let reference = Topology::parse(Path::new("reference.toml"), REFERENCE)?;
        let lab = Lab::in_world(world, &HOSTS)?;
        connect_to_the_outside(&lab)?;
        let topology = lab.world().folder().join("topology.toml");
        fs::write(&topology, REFERENCE).context("writing the topology")?;
        let agents = start_agents(&lab, &topology, Lanes::Both)?;
        let (mut machines, mut leases) = (Vec::new(), Vec::new());
        let mut probe = None;
        for port in reference.ports.iter().filter(|port| reference.role(port) == Role::Other) {
            let name = port.dns_name.as_deref().context("the demo names its machines")?;
            let port = lab_port(port)?;
            if name == PROBE {
                probe = Some(port);
                continue;
            }
            let machine = Machine::off(lab.world(), name, &port)?;
            machine.power_on_without_addresses(lab.host(&port.host))?;
            leases.push(machine.lease(lab.world()).with_context(|| format!("{name} asks for its address"))?);
            machines.push(machine);
        }
        let probe = probe.context("the demo has a probe")?;
        Ok(Self { agents, machines, leases, lab, probe, topology, reference })
    }

    pub(crate) fn machine(&self, name: &str) -> &Machine {
        let is_named = |machine: &&Machine| machine.namespace.name().ends_with(name);
        self.machines.iter().find(is_named).expect("the demo names its own machines")
    }

    /// The host that a machine is on.
    pub(crate) fn host_of(&self, machine: &Machine) -> &Host {
        self.lab.host(&machine.port.host)
    }

    /// The network node.
    pub(crate) fn controller(&self) -> &Host {
        self.lab.host("controller")
    }

    /// The kind of namespace that a port of the network's own leads into.
    pub(crate) fn network_owner(&self, port_id: &str) -> String {
        let port = self.reference.ports.iter().find(|port| port.id.to_string() == port_id);
        let role = port.map(|port| self.reference.role(port));
        if role == Some(Role::Dhcp) { "qdhcp".to_owned() } else { "qrouter".to_owned() }
    }

    /// Stops all agents and starts others in their place, under running machines.
    pub(crate) fn restart_agents(&mut self, lanes: Lanes) -> Result<()> {
        for agent in self.agents.drain(..) {
            agent.stop(nix::sys::signal::Signal::SIGTERM)?;
        }
        self.agents = start_agents(&self.lab, &self.topology, lanes)?;
        Ok(())
    }
}

/// The external NIC, the physical network, and a router of the data centre; behind it is the internet.
fn connect_to_the_outside(lab: &Lab) -> Result<()> {
    let (controller, fabric) = (lab.host("controller"), lab.fabric());
    fabric.run("ip link add name provider up type bridge")?;
    fabric.run(&format!("ip address add {OUTSIDE}/24 dev provider"))?;
    fabric.run(&format!("ip address add {INTERNET}/32 dev lo"))?;
    let peer = format!("type veth peer name to-external netns {}", fabric.name());
    controller.run(&format!("ip link add {EXTERNAL_NIC} up {peer}"))?;
    fabric.run("ip link set to-external master provider up")?;
    controller.add_config(&format!("[linux_bridge]\nphysical_interface_mappings = provider:{EXTERNAL_NIC}\n"));
    Ok(())
}

fn start_agents(lab: &Lab, topology: &Path, lanes: Lanes) -> Result<Vec<Agent>> {
    lab.hosts().iter().map(|host| host.start_agent(topology, lanes)).collect()
}

/// A port as the lab plugs it.
fn lab_port(port: &overlane_core::topology::Port) -> Result<Port> {
    Ok(Port {
        id: port.id.to_string(),
        network_id: port.network_id.to_string(),
        host: port.host.clone().context("the demo's ports are bound")?,
        mac_address: port.mac_address.to_string(),
        fixed_ips: port.fixed_ips.iter().map(ToString::to_string).collect(),
        ..Port::default()
    })
}
