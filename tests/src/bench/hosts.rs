//! The same two hosts several times: filtered by iptables as the Linux bridge agent does it, not filtered at all, without an overlay,
//! and with Overlane. What a topology file says is in all of them the same.

use std::{mem, os::fd::OwnedFd, path::Path};

use anyhow::{Context as _, Result};
use overlane_tests::{
    lab::{HOSTS, Lab, Lanes, Machine, Namespace, OpenVSwitch, Pair, Port, Rule, UPLINK, World, linux_bridge},
    packet::Ends,
    tap::Tap,
};

use crate::{
    bpf::{self, Hook, attach, dropping, load, redirecting},
    cpu::Cpu,
};

/// What servers are reached at, by UDP and by TCP.
pub(crate) const SERVICE: u16 = 8080;
/// Rules of a port with few, and of one with many; the same number of them is about what its machine receives.
pub(crate) const FEW: usize = 10;
pub(crate) const MANY: usize = 1000;

/// A pair of ports, one on each host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// With [`FEW`] rules each.
    Few,
    /// With [`MANY`] rules each.
    Many,
    /// Without port security.
    Open,
}

impl Ports {
    /// The place of the left one; the right one follows.
    const fn first(self) -> usize {
        match self {
            Self::Few => 0,
            Self::Many => 2,
            Self::Open => 4,
        }
    }
}

/// Devices in the fabric that carry nothing, for generators ([`crate::frames::Generator::know`]).
pub(crate) const IDLE: [&str; 4] = ["idle0", "idle1", "idle2", "idle3"];

/// What machines are behind their taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Namespaces: a tap is one end of a veth pair, whose other end is theirs.
    Veth,
    /// This program, as QEMU is: a tap is a tap, with virtio-net headers and so many queues.
    Tap(usize),
}

/// What hosts of Overlane are told, besides the topology.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane<'a> {
    /// Lines of section `[overlane]`.
    pub(crate) more_config: &'a str,
    pub(crate) lanes: Lanes,
    /// Whether what machines send is taken up by XDP.
    pub(crate) from_port_xdp: bool,
}

impl Lane<'_> {
    /// What users have who say nothing.
    pub(crate) const USUAL: Self = Self { more_config: "", lanes: Lanes::Both, from_port_xdp: false };
}

/// Two hosts, and a machine of each pair of ports on both.
pub(crate) struct Hosts {
    /// What forwards in place of the kernel, if anything does; it ends before the hosts.
    switches: Vec<OpenVSwitch>,
    pub(crate) pair: Pair,
    ports: Vec<Port>,
    machines: Vec<Machine>,
    /// The queues of each machine's tap, where it is a tap.
    queues: Vec<Vec<Tap>>,
    behind: Behind,
    /// What is attached besides, for as long as the hosts are there.
    links: Vec<OwnedFd>,
}

impl Hosts {
    /// Hosts of the Linux bridge agent: what is filtered is filtered by iptables.
    pub(crate) fn with_iptables(world: &World, behind: Behind) -> Result<Self> {
        let hosts = Self::with_kernel_lane(world.part("iptables-")?, behind)?;
        for (name, _) in HOSTS {
            let (namespace, folder) = (&hosts.pair.host(name).namespace, hosts.pair.folder());
            linux_bridge::filter(namespace, folder, &hosts.pair.topology_file, name)
                .with_context(|| format!("filtering {name}"))?;
        }
        Ok(hosts)
    }

    /// The same hosts without filters, their kernel told to leave bridged packets alone.
    pub(crate) fn unfiltered(world: &World, behind: Behind) -> Result<Self> {
        let hosts = Self::with_kernel_lane(world.part("kernel-")?, behind)?;
        for (name, _) in HOSTS {
            for tables in ["iptables", "ip6tables", "arptables"] {
                let parameter = format!("net/bridge/bridge-nf-call-{tables}");
                hosts.pair.host(name).namespace.set_parameter(&parameter, "0")?;
            }
        }
        Ok(hosts)
    }

    /// Hosts without an overlay: whatever the machine of the first pair of ports sends leaves by the uplink as it is, and whatever the
    /// uplink receives goes to that machine. Nothing is looked up: the least that a host can do with a packet.
    pub(crate) fn raw(world: &World, behind: Behind) -> Result<Self> {
        let mut hosts = Self::bare(world.part("raw-")?, behind)?;
        hosts.boot()?;
        for (index, (name, _)) in HOSTS.iter().enumerate() {
            let namespace = &hosts.pair.host(name).namespace;
            let tap = hosts.machines(Ports::Few)[index].port.tap();
            let mut links = Vec::new();
            for (from, to) in [(tap.as_str(), UPLINK), (UPLINK, tap.as_str())] {
                let program = load(Hook::TcIngress, &redirecting(bpf::index(namespace, to)?))?;
                links.push(attach(Hook::TcIngress, &program, namespace, from)?);
            }
            hosts.links.extend(links);
        }
        Ok(hosts)
    }

    /// Hosts whose switch is a program: Open vSwitch with its userspace datapath, without filters. Its threads share the CPU that
    /// everything is measured on, and come before what is sent to them: so nothing gets lost, and nothing waits.
    pub(crate) fn with_open_vswitch(world: &World, root: &Path) -> Result<Self> {
        let mut hosts = Self::bare(world.part("ovs-")?, Behind::Veth)?;
        hosts.boot()?;
        for machine in &hosts.machines {
            // It forwards packets as they are, and knows nothing of what a driver would still have to do.
            machine.run("ethtool --offload eth0 tx off")?;
        }
        for (index, (name, _)) in HOSTS.iter().enumerate() {
            let (host, remote) = (hosts.pair.host(name), hosts.pair.host(HOSTS[1 - index].0).local_ip);
            for scope in ["all", "default"] {
                host.namespace.set_parameter(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1")?;
            }
            let folder = hosts.pair.folder().join(format!("{name}-switch"));
            let switch = OpenVSwitch::start(root, host, &folder, Cpu::Last.number()?)?;
            let taps: Vec<String> = hosts.ports.iter().filter(|port| port.host == *name).map(Port::tap).collect();
            switch.connect(host, &taps, 10, remote)?;
            // The switch has its copy by then. The host's own IP stack would look at every packet once more.
            let drop = load(Hook::TcIngress, &dropping())?;
            for device in taps.iter().map(String::as_str).chain([UPLINK]) {
                hosts.links.push(attach(Hook::TcIngress, &drop, &host.namespace, device)?);
            }
            hosts.switches.push(switch);
        }
        let [left, right] = hosts.machines(Ports::Few);
        left.wait_for(right.port.ipv4())?;
        Ok(hosts)
    }

    /// Whether a program forwards, in place of the kernel.
    pub(crate) const fn forward_by_program(&self) -> bool {
        !self.switches.is_empty()
    }

    /// Whether programs that forward come before everything else on their CPU, as they do at first.
    pub(crate) fn forward_first(&self, is_first: bool) -> Result<()> {
        self.switches.iter().try_for_each(|switch| switch.come_first(is_first))
    }

    /// Hosts of Overlane, with more configuration than usual.
    pub(crate) fn with_overlane(world: World, more_config: &str) -> Result<Self> {
        Self::of(world, Behind::Veth, Lane { more_config, ..Lane::USUAL })
    }

    /// Hosts of Overlane.
    pub(crate) fn of(world: World, behind: Behind, lane: Lane) -> Result<Self> {
        let mut hosts = Self::bare(world, behind)?;
        for port in &mut hosts.pair.topology.ports {
            port.from_port_xdp = lane.from_port_xdp.then_some(true);
        }
        hosts.pair.topology.write(&hosts.pair.topology_file)?;
        for (name, _) in HOSTS {
            // XDP takes up nothing of a NIC that hides tags.
            hosts.pair.host(name).run(&format!("ethtool --offload {UPLINK} rxvlan off"))?;
            hosts.pair.host(name).add_config(lane.more_config);
            let agent = hosts.pair.host(name).start_agent(&hosts.pair.topology_file, lane.lanes)?;
            hosts.pair.agents.push(agent);
        }
        hosts.boot()?;
        hosts.pair.finish()?;
        Ok(hosts)
    }

    fn with_kernel_lane(world: World, behind: Behind) -> Result<Self> {
        let mut hosts = Self::bare(world, behind)?;
        hosts.boot()?;
        for index in [0, 1] {
            hosts.pair.set_up_ports_like_the_linux_bridge_agent(index, &hosts.ports)?;
        }
        Ok(hosts)
    }

    fn bare(world: World, behind: Behind) -> Result<Self> {
        let mut pair = Pair::in_lab(match behind {
            Behind::Veth => Lab::back_to_back(world, &HOSTS)?,
            Behind::Tap(_) => Self::across_a_segment(world)?,
        })?;
        for [one, other] in IDLE.as_chunks().0 {
            pair.lab.fabric().run(&format!("ip link add {one} type veth peer name {other}"))?;
        }
        let friends = pair.topology.add_group("friends", []);
        let groups =
            [FEW, MANY].map(|count| pair.topology.add_group(&format!("{count} rules"), rules(count, &friends)));
        let mut ports = pair.ports.to_vec();
        for number in [3, 5] {
            ports.push(pair.topology.add_port(&pair.network, "left", number));
            ports.push(pair.topology.add_port(&pair.network, "right", number + 1));
        }
        for (two, group) in ports.chunks_exact(2).zip(&groups) {
            for port in two {
                pair.topology.set_groups(&port.id, &[group]);
            }
        }
        for port in &mut pair.topology.ports[4..] {
            port.port_security_enabled = Some(false);
        }
        pair.topology.write(&pair.topology_file)?;
        Ok(Self {
            switches: Vec::new(),
            pair,
            ports,
            machines: Vec::new(),
            queues: Vec::new(),
            behind,
            links: Vec::new(),
        })
    }

    /// Hosts with a bridge between them, which hands over what has come together, as a switch does: on a wire that ends at the other
    /// host, GRO leaves out the first segment of a burst, whatever is measured.
    fn across_a_segment(world: World) -> Result<Lab> {
        let lab = Lab::in_world(world, &HOSTS)?;
        for (name, _) in HOSTS {
            // So that hosts can send by XDP.
            lab.fabric().run(&format!("ethtool --offload to-{name} gro on"))?;
        }
        Ok(lab)
    }

    fn boot(&mut self) -> Result<()> {
        let world = self.pair.lab.world();
        for port in &self.ports {
            let host = self.pair.host(&port.host);
            let machine = Machine::off(world, &format!("vm-{}", &port.id[..11]), port)?;
            match self.behind {
                Behind::Veth => machine.power_on(host)?,
                Behind::Tap(queues) => self.queues.push(Tap::with_queues(&host.namespace, &port.tap(), queues)?),
            }
            // What a machine says of its own accord would only be in the way.
            machine.namespace.set_parameter("net/ipv6/conf/all/disable_ipv6", "1")?;
            self.machines.push(machine);
        }
        Ok(())
    }

    /// Has the taps poll for what their machines send, or not, as they do for XDP programs: so that a generator can send as a machine
    /// does ([`crate::frames::Entrance::Sent`]). They put TCP segments together as well, then.
    pub(crate) fn poll(&self, is_on: bool) -> Result<()> {
        let to = if is_on { "on" } else { "off" };
        for machine in &self.machines {
            let host = self.pair.host(&machine.port.host);
            host.run(&format!("ethtool --offload {} gro {to}", machine.port.tap()))?;
        }
        Ok(())
    }

    /// The machines of a pair of ports: on the left host, on the right host.
    pub(crate) fn machines(&self, ports: Ports) -> [&Machine; 2] {
        let first = ports.first();
        [&self.machines[first], &self.machines[first + 1]]
    }

    /// The queues of their taps, for the caller: taps are there for as long as their queues.
    pub(crate) fn take_queues(&mut self, ports: Ports) -> [Vec<Tap>; 2] {
        let first = ports.first();
        [first, first + 1].map(|place| mem::take(&mut self.queues[place]))
    }

    /// The hosts' namespaces: left, right.
    pub(crate) fn namespaces(&self) -> [&Namespace; 2] {
        HOSTS.map(|(name, _)| &self.pair.host(name).namespace)
    }
}

/// Anything may leave. What may arrive are `count` services: by turns a port from a range of addresses, two ports from one, and a
/// port from the members of a group. The one that is used comes in the middle of its kind, as far as rules have an order: half
/// of them are about TCP, and half about UDP.
fn rules(count: usize, friends: &str) -> Vec<Rule> {
    let [leaving, _] = Rule::both("egress", None);
    let services = ["tcp", "udp"].into_iter().flat_map(|protocol| {
        let [rule, _] = Rule::both("ingress", Some(protocol));
        (0..count / 2).map(move |number| {
            let port = SERVICE - 2 * u16::try_from(number).expect("there are not so many");
            let rule = rule.clone().port(port);
            let range = Some("10.0.0.0/8".to_owned());
            match number % 3 {
                0 => Rule { remote_ip_prefix: range, ..rule },
                1 => Rule { remote_ip_prefix: range, port_range_max: Some(port + 1), ..rule },
                _ => rule.group(friends),
            }
        })
    });
    std::iter::once(leaving).chain(services).collect()
}

/// The headers of what goes from one machine to another.
pub(crate) fn ends(from: &Machine, to: &Machine) -> Ends {
    Ends {
        source_mac: from.port.mac(),
        destination_mac: to.port.mac(),
        source: from.port.ipv4().parse().expect("an address"),
        destination: to.port.ipv4().parse().expect("an address"),
        traffic_class: 0,
    }
}
