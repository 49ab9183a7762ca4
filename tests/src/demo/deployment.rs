//! The reference deployment: a controller and two compute hosts, two tenant networks, a router between them.

use std::path::PathBuf;

use anyhow::Result;
use overlane_tests::lab::{Agent, Host, Lab, Lanes, Machine, Namespace, Network, Port, Subnet, Topology, World};

/// Hosts and their underlay addresses.
pub(crate) const HOSTS: [(&str, &str); 3] =
    [("controller", "10.10.10.10"), ("compute1", "10.10.10.11"), ("compute2", "10.10.10.12")];

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

const ROUTER_PORTS: [PortSpec; 2] = [
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
            lab.host(spec.host).plug(&router, &port, &interface("qr-", &port))?;
        }
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

fn start_agents(lab: &Lab, topology: &std::path::Path, lanes: Lanes) -> Result<Vec<Agent>> {
    lab.hosts().iter().map(|host| host.start_agent(topology, lanes)).collect()
}

fn describe(lab: &Lab) -> Topology {
    let mut topology = Topology::of(lab.hosts());
    let networks =
        [(APPNET, "appnet", 10, &["11.0.0.0/24", "10.0.0.0/24"][..]), (APPNET2, "appnet2", 25, &["20.0.0.0/24"])];
    topology.networks = networks
        .into_iter()
        .map(|(id, name, vni, subnets)| Network {
            id: id.to_owned(),
            name: name.to_owned(),
            network_type: "vxlan".to_owned(),
            physical_network: None,
            segmentation_id: Some(vni),
            mtu: Some(1450),
            subnets: subnets.iter().map(|cidr| Subnet { cidr: (*cidr).to_owned() }).collect(),
        })
        .collect();
    topology.ports = MACHINES.iter().chain(&ROUTER_PORTS).chain([&PROBE_PORT]).map(port).collect();
    topology
}

fn port(spec: &PortSpec) -> Port {
    Port {
        id: spec.id.to_owned(),
        network_id: spec.network.to_owned(),
        host: spec.host.to_owned(),
        mac_address: spec.mac.to_owned(),
        fixed_ips: vec![spec.address.to_owned()],
        device_owner: spec.owner.to_owned(),
        allowed_address_pairs: Vec::new(),
    }
}

/// The name that Neutron's agents give to the inner end of a port.
fn interface(prefix: &str, port: &Port) -> String {
    format!("{prefix}{}", &port.id[..11])
}
