//! The reference deployment: a controller and two compute hosts, two tenant networks, a router between them.

use std::path::PathBuf;

use anyhow::Result;
use overlane_tests::lab::{Agent, Host, Lab, Lanes, Machine, Namespace, Network, Port, Subnet, Topology, World};

/// Hosts and their underlay addresses.
pub(crate) const HOSTS: [(&str, &str); 3] =
    [("controller", "10.10.10.10"), ("compute1", "10.10.10.11"), ("compute2", "10.10.10.12")];

/// The controller's NIC on the physical network `provider`: unnumbered.
const EXTERNAL_NIC: &str = "ens224";
/// What is beyond: a router of the data centre.
pub(crate) const OUTSIDE: &str = "10.62.227.1";

const EXTNET: &str = "96609bfa-0e22-4bb7-8dba-6ef532ea6076";
const APPNET: &str = "971ffda2-e567-40a0-a2c8-b31a577fd4d3";
const APPNET2: &str = "85925305-b477-4cc6-9654-67d9bf1e7cd8";
const ROUTER: &str = "39a77439-8a28-49c1-bf97-ac931510631b";

/// A port and the inside of what it belongs to.
struct PortSpec {
    inside: &'static str,
    id: &'static str,
    network: &'static str,
    host: &'static str,
    mac: &'static str,
    address: &'static str,
    owner: &'static str,
}

const DHCP: &str = "network:dhcp";
const ROUTER_INTERFACE: &str = "network:router_interface";
const ROUTER_GATEWAY: &str = "network:router_gateway";
const COMPUTE: &str = "compute:nova";

const MACHINES: [PortSpec; 6] = [
    PortSpec {
        inside: "qdhcp-971ffda2-e567-40a0-a2c8-b31a577fd4d3",
        id: "f70543dd-0f1b-4e1d-93c7-33f4f3d7a709",
        network: APPNET,
        host: "controller",
        mac: "fa:16:3e:5c:bf:11",
        address: "10.0.0.10",
        owner: DHCP,
    },
    PortSpec {
        inside: "qdhcp-85925305-b477-4cc6-9654-67d9bf1e7cd8",
        id: "798c87d1-a2d8-4df7-b7fc-5ab30918a0de",
        network: APPNET2,
        host: "controller",
        mac: "fa:16:3e:25:27:99",
        address: "20.0.0.100",
        owner: DHCP,
    },
    PortSpec {
        inside: "app1",
        id: "a1b6a1c2-5d0e-4a51-8f0e-1f6f0a7c1d01",
        network: APPNET,
        host: "compute1",
        mac: "fa:16:3e:aa:00:21",
        address: "10.0.0.21",
        owner: COMPUTE,
    },
    PortSpec {
        inside: "app2",
        id: "a2c7b2d3-6e1f-4b62-9a1f-2a7a1b8d2e02",
        network: APPNET,
        host: "compute2",
        mac: "fa:16:3e:aa:00:22",
        address: "10.0.0.22",
        owner: COMPUTE,
    },
    PortSpec {
        inside: "web1",
        id: "b1d8c3e4-7f2a-4c73-8b2a-3b8b2c9e3f03",
        network: APPNET2,
        host: "compute1",
        mac: "fa:16:3e:bb:00:21",
        address: "20.0.0.21",
        owner: COMPUTE,
    },
    PortSpec {
        inside: "web2",
        id: "b2e9d4f5-8a3b-4d84-9c3b-4c9c3daf4a04",
        network: APPNET2,
        host: "compute2",
        mac: "fa:16:3e:bb:00:22",
        address: "20.0.0.22",
        owner: COMPUTE,
    },
];

const ROUTER_PORTS: [PortSpec; 3] = [
    PortSpec {
        inside: ROUTER,
        id: "b1eaae00-e504-41f8-93a4-643687155bea",
        network: APPNET,
        host: "controller",
        mac: "fa:16:3e:81:1b:37",
        address: "10.0.0.1",
        owner: ROUTER_INTERFACE,
    },
    PortSpec {
        inside: ROUTER,
        id: "0bb8efeb-108f-409a-82e7-c4c20f0d4f69",
        network: APPNET2,
        host: "controller",
        mac: "fa:16:3e:9f:18:a9",
        address: "20.0.0.1",
        owner: ROUTER_INTERFACE,
    },
    PortSpec {
        inside: ROUTER,
        id: "60dbdc2f-a01b-446d-bb5b-26ffac19a045",
        network: EXTNET,
        host: "controller",
        mac: "fa:16:3e:77:78:86",
        address: "10.62.227.151",
        owner: ROUTER_GATEWAY,
    },
];

/// What `brctl show` says on the controller of the reference deployment.
pub(crate) const CONTROLLER_BRIDGES: [(&str, &[&str]); 3] = [
    ("brq85925305-b4", &["tap0bb8efeb-10", "tap798c87d1-a2", "vxlan-25"]),
    ("brq96609bfa-0e", &["ens224", "tap60dbdc2f-a0"]),
    ("brq971ffda2-e5", &["tapb1eaae00-e5", "tapf70543dd-0f", "vxlan-10"]),
];

/// The port that is plugged over and over to see how fast that is.
pub(crate) const PROBE: &str = "probe";

const PROBE_PORT: PortSpec = PortSpec {
    inside: PROBE,
    id: "c3fae5a6-9b4c-4e95-8d4c-5dad4eb05b05",
    network: APPNET,
    host: "compute1",
    mac: "fa:16:3e:aa:00:31",
    address: "10.0.0.31",
    owner: COMPUTE,
};

/// The running deployment.
pub(crate) struct Deployment {
    // Ends before the lab that it is in, from top to bottom.
    agents: Vec<Agent>,
    pub(crate) machines: Vec<Machine>,
    _router: Namespace,
    pub(crate) lab: Lab,
    pub(crate) probe: Port,
    topology: PathBuf,
}

impl Deployment {
    /// Sets everything up: hosts, agents, and then machines, as in a cloud.
    pub(crate) fn new(world: World) -> Result<Self> {
        let lab = Lab::in_world(world, &HOSTS)?;
        connect_to_the_outside(&lab)?;
        let topology = lab.world().folder().join("topology.toml");
        describe(&lab).write(&topology)?;
        let agents = start_agents(&lab, &topology, Lanes::Both)?;
        let world = lab.world();
        let mut machines = Vec::new();
        for spec in &MACHINES {
            let machine = Machine::off(world, spec.inside, &port(spec))?;
            let host = lab.host(spec.host);
            if spec.owner == DHCP {
                host.plug(&machine.namespace, &machine.port, &interface("ns-", &machine.port))?;
            } else {
                machine.power_on(host)?;
                let gateway = if spec.network == APPNET { "10.0.0.1" } else { "20.0.0.1" };
                machine.run(&format!("ip route add default via {gateway}"))?;
            }
            machines.push(machine);
        }
        let router = world.namespace(&format!("qrouter-{ROUTER}"))?;
        router.set_parameter("net/ipv4/ip_forward", "1")?;
        for spec in &ROUTER_PORTS {
            let port = port(spec);
            let prefix = if spec.owner == ROUTER_GATEWAY { "qg-" } else { "qr-" };
            lab.host(spec.host).plug(&router, &port, &interface(prefix, &port))?;
        }
        router.run(&format!("ip route add default via {OUTSIDE}"))?;
        Ok(Self { agents, machines, _router: router, lab, probe: port(&PROBE_PORT), topology })
    }

    pub(crate) fn machine(&self, name: &str) -> &Machine {
        let is_named = |machine: &&Machine| machine.namespace.name().ends_with(name);
        self.machines.iter().find(is_named).expect("the demo names its own machines")
    }

    /// The host that a machine is on.
    pub(crate) fn host_of(&self, machine: &Machine) -> &Host {
        self.lab.host(&machine.port.host)
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

/// The external NIC, the physical network, and a router of the data centre that knows the way back.
fn connect_to_the_outside(lab: &Lab) -> Result<()> {
    let (controller, fabric) = (lab.host("controller"), lab.fabric());
    fabric.run("ip link add name provider up type bridge")?;
    fabric.run(&format!("ip address add {OUTSIDE}/24 dev provider"))?;
    let peer = format!("type veth peer name to-external netns {}", fabric.name());
    controller.run(&format!("ip link add {EXTERNAL_NIC} up {peer}"))?;
    fabric.run("ip link set to-external master provider up")?;
    for network in ["10.0.0.0/24", "20.0.0.0/24"] {
        fabric.run(&format!("ip route add {network} via 10.62.227.151"))?;
    }
    controller.add_config(&format!("[linux_bridge]\nphysical_interface_mappings = provider:{EXTERNAL_NIC}\n"));
    Ok(())
}

fn start_agents(lab: &Lab, topology: &std::path::Path, lanes: Lanes) -> Result<Vec<Agent>> {
    lab.hosts().iter().map(|host| host.start_agent(topology, lanes)).collect()
}

fn describe(lab: &Lab) -> Topology {
    let mut topology = Topology::of(lab.hosts());
    let tenant = |id, name, vni| Network { segmentation_id: Some(vni), mtu: Some(1450), ..network(id, name, "vxlan") };
    let external = Network { physical_network: Some("provider".to_owned()), ..network(EXTNET, "extnet", "flat") };
    topology.networks = vec![external, tenant(APPNET, "appnet", 10), tenant(APPNET2, "appnet2", 25)];
    let subnets = [&["10.62.227.0/24", "10.62.228.0/24"][..], &["11.0.0.0/24", "10.0.0.0/24"], &["20.0.0.0/24"]];
    for (network, subnets) in topology.networks.iter_mut().zip(subnets) {
        network.subnets = subnets.iter().map(|cidr| Subnet::of(cidr)).collect();
    }
    topology.ports = MACHINES.iter().chain(&ROUTER_PORTS).chain([&PROBE_PORT]).map(port).collect();
    topology
}

fn network(id: &str, name: &str, network_type: &str) -> Network {
    Network { id: id.to_owned(), name: name.to_owned(), network_type: network_type.to_owned(), ..Network::default() }
}

fn port(spec: &PortSpec) -> Port {
    Port {
        id: spec.id.to_owned(),
        network_id: spec.network.to_owned(),
        host: spec.host.to_owned(),
        mac_address: spec.mac.to_owned(),
        fixed_ips: vec![spec.address.to_owned()],
        device_owner: spec.owner.to_owned(),
        ..Port::default()
    }
}

/// The name that Neutron's agents give to the inner end of a port.
fn interface(prefix: &str, port: &Port) -> String {
    format!("{prefix}{}", &port.id[..11])
}
