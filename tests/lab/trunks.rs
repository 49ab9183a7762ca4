//! Trunks: a machine that is in several networks by one tap, with a tag for each. On kernels with and without an 8021q module, operators
//! and machines see the same.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Connection, HOSTS, Host, Lanes, Machine, Network, Pair, Port, Rule, Stream, TrunkMachine, nothing_to_do},
    packet::{BROADCAST, Ends},
    tap::{Offload, Tap},
    wait::wait_until,
};

const VID: u16 = 101;
/// The port of servers that a rule admits, and one that none does.
const OPEN: u16 = 8080;
const SHUT: u16 = 8081;

/// A machine on the left host with a trunk, and on the right one a machine in the trunk's own network and one in its subport's.
struct World {
    pair: Pair,
    network: Network,
    sub_port: Port,
    peer_port: Port,
}

struct Machines {
    trunk: TrunkMachine,
    own_peer: Machine,
    peer: Machine,
}

impl World {
    fn new() -> Result<Self> {
        let mut pair = Pair::bare()?;
        let network = pair.topology.add_network(20);
        let sub_port = pair.topology.add_port(&network, "left", 1);
        let peer_port = pair.topology.add_port(&network, "right", 2);
        let parent = pair.ports[0].clone();
        pair.topology.add_trunk(&parent, &[(&sub_port, VID)]);
        // As Neutron has it.
        let index = pair.topology.ports.iter().position(|port| port.id == sub_port.id).context("the subport")?;
        pair.topology.ports[index].device_owner = "trunk:subport".to_owned();
        pair.topology.write(&pair.topology_file)?;
        Ok(Self { pair, network, sub_port, peer_port })
    }

    fn start(&mut self, lanes: Lanes) -> Result<()> {
        self.pair.topology.write(&self.pair.topology_file)?;
        for (name, _) in HOSTS {
            let agent = self.pair.lab.host(name).start_agent(&self.pair.topology_file, lanes)?;
            self.pair.agents.push(agent);
        }
        Ok(())
    }

    fn boot(&self) -> Result<Machines> {
        let (left, right, lab) = (self.pair.host("left"), self.pair.host("right"), self.pair.lab.world());
        Ok(Machines {
            trunk: TrunkMachine::boot(left, lab, &self.pair.ports[0], &[(&self.sub_port, VID)])?,
            own_peer: right.boot(lab, &self.pair.ports[1])?,
            peer: right.boot(lab, &self.peer_port)?,
        })
    }

    fn running(lanes: Lanes) -> Result<(Self, Machines)> {
        let mut world = Self::new()?;
        world.start(lanes)?;
        let machines = world.boot()?;
        world.settle(&machines)?;
        Ok((world, machines))
    }

    /// Waits until the machine reaches both of its peers.
    fn settle(&self, machines: &Machines) -> Result<()> {
        let (trunk, [own, own_peer]) = (&machines.trunk.machine, &self.pair.ports);
        for (from, to) in [
            (trunk, own_peer.ipv4()),
            (trunk, self.peer_port.ipv4()),
            (trunk, self.peer_port.ipv6()),
            (&machines.own_peer, own.ipv6()),
            (&machines.peer, self.sub_port.ipv4()),
        ] {
            from.wait_for(to)?;
        }
        self.pair.finish()
    }

    fn left(&self) -> &Host {
        self.pair.host("left")
    }
}

#[test]
fn a_machine_is_in_two_networks_by_one_tap() -> Result<()> {
    let (world, machines) = World::running(Lanes::Both)?;
    let (trunk, sub_tap) = (&machines.trunk.machine, world.sub_port.tap());
    for (from, to) in [
        (trunk, &world.peer_port),
        (&machines.peer, &world.sub_port),
        (trunk, &world.pair.ports[1]),
        (&machines.own_peer, &world.pair.ports[0]),
    ] {
        from.ping(to.ipv4(), 20)?;
        from.ping(to.ipv6(), 20)?;
    }
    let host = world.left();
    let fast = host.counted("from_port", &sub_tap, "encapsulated")?;
    ensure!(fast >= 40, "only {fast} frames of the subport took the fast lane");
    let rows = host.show("ports")?;
    let row = rows.iter().find(|row| row["tap"] == sub_tap.as_str()).context("a row for the subport")?;
    ensure!(row["state"] == "active" && row["lane"] == "fast", "{row}");
    let link = host.run(&format!("ip -o link show {sub_tap}"))?;
    ensure!(link.contains(&format!("master {}", world.network.bridge())), "{link}");
    let addresses = host.run(&format!("ip -6 address show dev {sub_tap}"))?;
    ensure!(addresses.is_empty(), "the device has IPv6 of its own: {addresses}");
    ensure!(host.overlane("verify")?.starts_with("Desired state, kernel and maps agree."));
    Ok(())
}

#[test]
fn superpackets_and_checksums_that_are_yet_to_be_made_go_through_a_trunk_in_both_directions() -> Result<()> {
    let (world, machines) = World::running(Lanes::Both)?;
    let folder = world.pair.folder();
    let server = machines.peer.serve_iperf(folder)?;
    ensure!(machines.trunk.machine.iperf(world.peer_port.ipv4(), 1)? > 1e8);
    drop(server);
    let server = machines.trunk.machine.serve_iperf(folder)?;
    ensure!(machines.peer.iperf(world.sub_port.ipv6(), 1)? > 1e8);
    drop(server);
    Ok(())
}

#[test]
fn machines_of_one_host_reach_a_subport_without_a_tunnel_and_its_bridge_floods_into_it() -> Result<()> {
    let mut world = World::new()?;
    let neighbour_port = world.pair.topology.add_port(&world.network, "left", 3);
    world.start(Lanes::Both)?;
    let machines = world.boot()?;
    let neighbour = world.left().boot(world.pair.lab.world(), &neighbour_port)?;
    world.settle(&machines)?;
    neighbour.ping(world.sub_port.ipv4(), 10)?;
    machines.trunk.machine.ping(neighbour_port.ipv6(), 10)?;
    let delivered = world.left().counted("from_port", &world.sub_port.tap(), "delivered")?;
    ensure!(delivered >= 10, "only {delivered} frames were switched past the bridge");
    // To all: by the kernel lane, in both directions.
    neighbour.run("ping -c 1 -W 2 -I eth0 ff02::1")?;
    machines.trunk.machine.run(&format!("ping -c 1 -W 2 -I eth0.{VID} ff02::1")).map(drop)
}

#[test]
fn security_groups_of_a_subport_and_of_the_trunks_own_port_are_each_ones_own() -> Result<()> {
    let mut world = World::new()?;
    let topology = &mut world.pair.topology;
    let open = topology.add_group("open", [Rule::both("egress", None), Rule::both("ingress", None)].concat());
    let rules = Rule::both("ingress", Some("tcp")).map(|rule| rule.port(OPEN));
    let server = topology.add_group("server", rules);
    for id in [&world.pair.ports[0].id, &world.pair.ports[1].id, &world.peer_port.id] {
        topology.set_groups(id, &[&open]);
    }
    topology.set_groups(&world.sub_port.id, &[&server]);
    world.start(Lanes::Both)?;
    let machines = world.boot()?;
    let trunk = &machines.trunk.machine;
    machines.own_peer.wait_for(world.pair.ports[0].ipv4())?;
    world.pair.finish()?;
    for address in [world.sub_port.ipv4(), world.sub_port.ipv6()] {
        let mut connection = Connection::open(&machines.peer, trunk, address, OPEN)?.context("a rule admits it")?;
        ensure!(connection.is_alive()?);
        ensure!(Connection::open(&machines.peer, trunk, address, SHUT)?.is_none(), "no rule admits it");
        ensure!(!machines.peer.reaches(address), "no rule admits a ping");
    }
    // It may not begin anything, nor send as somebody else; its trunk's own port may.
    ensure!(!trunk.reaches(world.peer_port.ipv4()));
    trunk.ping(world.pair.ports[1].ipv4(), 5)?;
    world.pair.change(|topology| topology.set_groups(&world.sub_port.id, &[&open]))?;
    trunk.wait_for(world.peer_port.ipv4())?;
    trunk.run(&format!("ip address add 10.0.20.77/24 dev eth0.{VID}"))?;
    let spoofed = format!("ping -c 2 -i 0.1 -W 1 -I 10.0.20.77 {}", world.peer_port.ipv4());
    ensure!(trunk.run(&spoofed).is_err(), "a subport may send as somebody else");
    Ok(())
}

#[test]
fn stopping_killing_replacing_and_detaching_an_agent_loses_no_packet_of_a_subport() -> Result<()> {
    let (mut world, machines) = World::running(Lanes::Both)?;
    let folder = world.pair.folder().to_owned();
    let streams = [
        Stream::start(&folder, &machines.trunk.machine.namespace, world.peer_port.ipv4())?,
        Stream::start(&folder, &machines.peer.namespace, world.sub_port.ipv6())?,
        Stream::start(&folder, &machines.own_peer.namespace, world.pair.ports[0].ipv4())?,
    ];
    world.pair.replace_agent(Signal::SIGTERM, Lanes::Both, |_| Ok(()))?;
    world.pair.replace_agent(Signal::SIGKILL, Lanes::Both, |_| Ok(()))?;
    world.pair.replace_agent(Signal::SIGTERM, Lanes::Both, Host::pretend_to_be_older)?;
    world.pair.replace_agent(Signal::SIGTERM, Lanes::Both, |host| host.overlane("detach").map(drop))?;
    streams.into_iter().try_for_each(Stream::expect_no_loss)
}

#[test]
fn after_detach_a_subport_is_in_reach_and_purge_takes_its_device_away() -> Result<()> {
    let (mut world, machines) = World::running(Lanes::Both)?;
    world.pair.agents.remove(0).stop(Signal::SIGTERM)?;
    let (host, sub_tap) = (world.left(), world.sub_port.tap());
    let said = host.overlane("detach")?;
    let before = host.counted("from_port", &sub_tap, "encapsulated")?;
    machines.trunk.machine.ping(world.peer_port.ipv4(), 10)?;
    machines.peer.ping(world.sub_port.ipv6(), 10)?;
    if host.pins().exists() {
        ensure!(said.contains(&sub_tap), "{said}");
        ensure!(host.counted("from_port", &sub_tap, "encapsulated")? == before, "the fast lane still forwards");
    }
    host.overlane("detach --purge")?;
    let links = host.run("ip -o link")?;
    ensure!(!links.contains(&sub_tap) && links.contains(&world.pair.ports[0].tap()), "{links}");
    ensure!(!host.pins().exists());
    Ok(())
}

#[test]
fn subports_come_and_go_and_change_their_tags_while_the_machine_runs() -> Result<()> {
    let (mut world, machines) = World::running(Lanes::Both)?;
    let own = Stream::start(world.pair.folder(), &machines.own_peer.namespace, world.pair.ports[0].ipv4())?;
    let (trunk, sub_tap) = (&machines.trunk.machine, world.sub_port.tap());
    world.pair.change(|topology| topology.trunks[0].sub_ports[0].segmentation_id = 102)?;
    ensure!(!trunk.reaches(world.peer_port.ipv4()), "the old tag still leads into the network");
    world.pair.change(|topology| topology.trunks[0].sub_ports[0].segmentation_id = VID)?;
    trunk.wait_for(world.peer_port.ipv4())?;
    let former = world.pair.topology.trunks[0].sub_ports.clone();
    world.pair.change(|topology| topology.trunks[0].sub_ports.clear())?;
    ensure!(world.left().run(&format!("ip link show {sub_tap}")).is_err(), "the device is left");
    ensure!(!trunk.reaches(world.peer_port.ipv4()));
    world.pair.change(|topology| topology.trunks[0].sub_ports = former)?;
    trunk.wait_for(world.peer_port.ipv4())?;
    machines.peer.wait_for(world.sub_port.ipv6())?;
    world.pair.change(|topology| topology.trunks.clear())?;
    ensure!(world.left().run(&format!("ip link show {sub_tap}")).is_err(), "the device is left");
    own.expect_no_loss()
}

#[test]
fn a_trunk_whose_tap_goes_takes_its_subports_along_and_brings_them_back() -> Result<()> {
    let (world, mut machines) = World::running(Lanes::Both)?;
    let (host, sub_tap) = (world.left(), world.sub_port.tap());
    drop(machines.trunk);
    wait_until("the subport's device has gone", || Ok(host.run(&format!("ip link show {sub_tap}")).is_err()))?;
    nothing_to_do(host)?;
    machines.trunk = TrunkMachine::boot(host, world.pair.lab.world(), &world.pair.ports[0], &[(&world.sub_port, VID)])?;
    world.settle(&machines)
}

#[test]
fn a_subports_device_that_is_deleted_or_taken_down_or_out_of_its_bridge_is_repaired() -> Result<()> {
    let (world, machines) = World::running(Lanes::Both)?;
    let (host, sub_tap) = (world.left(), world.sub_port.tap());
    for damage in ["delete", "set {} down", "set {} nomaster"] {
        let words = if damage == "delete" { format!("delete {sub_tap}") } else { damage.replace("{}", &sub_tap) };
        host.run(&format!("ip link {words}"))?;
        machines.peer.wait_for(world.sub_port.ipv4()).with_context(|| format!("after ip link {words}"))?;
        world.settle(&machines)?;
    }
    Ok(())
}

#[test]
fn nothing_tagged_gets_from_the_trunks_network_into_a_subports_or_to_its_machine_past_its_rules() -> Result<()> {
    let mut world = World::new()?;
    // Somebody in the trunk's own network, on its host, who may send what he likes; and the machine behind the trunk.
    let open = |port: &mut Port| port.port_security_enabled = Some(false);
    world.pair.topology.ports.iter_mut().for_each(open);
    let network = world.pair.network.clone();
    let mut intruder_port = world.pair.topology.add_port(&network, "left", 66);
    world.pair.topology.ports.iter_mut().for_each(open);
    open(&mut intruder_port);
    world.start(Lanes::Both)?;
    let host = &world.left().namespace;
    let mut trunk = Tap::create(host, &world.pair.ports[0].tap())?;
    let mut intruder = Tap::create(host, &intruder_port.tap())?;
    world.pair.finish()?;
    let ends = Ends {
        source_mac: intruder_port.mac(),
        destination_mac: BROADCAST,
        source: [10, 0, 20, 66].into(),
        destination: [10, 0, 20, 1].into(),
        traffic_class: 0,
    };
    // The first frame would get through if the tag did not keep it away; the others show that they could.
    intruder.send(Offload::default(), &ends.udp(100).tagged(VID))?;
    intruder.send(Offload::default(), &ends.udp(200).tagged(VID + 1))?;
    let (_, received) = trunk.receive(|frame| frame.0[6..12] == intruder_port.mac())?;
    ensure!(received == ends.udp(200).tagged(VID + 1), "{received:?}");
    let drops = world.left().show("drops")?;
    let is_meant = |row: &&serde_json::Value| row["reason"] == "vlan-tagged" && row["packets"] == 1;
    ensure!(drops.iter().any(|row| is_meant(&row)), "{drops:?}");
    Ok(())
}

#[test]
fn a_subport_receives_with_its_tag_and_the_trunks_own_port_without_one() -> Result<()> {
    let mut world = World::new()?;
    world.start(Lanes::Both)?;
    let mut trunk = Tap::create(&world.left().namespace, &world.pair.ports[0].tap())?;
    let (right, lab) = (world.pair.host("right"), world.pair.lab.world());
    let (own_peer, peer) = (right.boot(lab, &world.pair.ports[1])?, right.boot(lab, &world.peer_port)?);
    world.pair.finish()?;
    for (from, to, tags) in [(&own_peer, &world.pair.ports[0], vec![]), (&peer, &world.sub_port, vec![VID])] {
        from.run(&format!("ip neighbour replace {} lladdr {} dev eth0", to.ipv4(), to.mac_address))?;
        // Nobody answers.
        let _ = from.run(&format!("ping -c 1 -W 1 {}", to.ipv4()));
        let is_meant =
            |frame: &overlane_tests::packet::Frame| frame.0[..6] == to.mac() && frame.0[6..12] == from.port.mac();
        let (_, frame) = trunk.receive(is_meant)?;
        ensure!(frame.tags() == tags, "{:?}", frame.tags());
    }
    Ok(())
}

#[test]
fn with_filters_only_a_subport_is_connected_by_the_kernel_lane() -> Result<()> {
    let mut world = World::new()?;
    let topology = &mut world.pair.topology;
    topology.add_group("default", [Rule::both("egress", None), Rule::both("ingress", None)].concat());
    world.start(Lanes::KernelOnly)?;
    let machines = world.boot()?;
    world.settle(&machines)?;
    machines.trunk.machine.ping(world.peer_port.ipv4(), 10)?;
    let host = world.left();
    ensure!(host.counted("from_port", &world.sub_port.tap(), "encapsulated")? == 0, "the fast lane forwards");
    Ok(())
}

#[test]
fn without_ebpf_a_subport_needs_the_8021q_module_and_the_agent_says_so() -> Result<()> {
    let mut world = World::new()?;
    world.start(Lanes::KernelOnly)?;
    let machines = world.boot()?;
    machines.own_peer.wait_for(world.pair.ports[0].ipv4())?;
    let host = world.left();
    if host.run(&format!("ip link show {}", world.sub_port.tap())).is_ok() {
        return machines.peer.wait_for(world.sub_port.ipv4());
    }
    world.pair.agents[0]
        .wait_for_log("the kernel has no 8021q module, so that subports need eBPF, but [overlane] fast_path is off")
}
