//! VLAN networks: what connects their machines, how long it is there, and what stands in its way. On kernels with and without an
//! 8021q module, operators and machines see the same.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{
        BY_INTERFACE, HOSTS, Host, Lanes, Machine, NIC, Network, OUTSIDE, Pair, Port, Stream, UPLINK, nothing_to_do,
    },
    wait::wait_until,
};

const DEVICE: &str = "phys0.100";

/// A VLAN network with a port on each host, the left one first.
fn add_vlan(pair: &mut Pair, number: u8, vid: u16) -> Result<(Network, [Port; 2])> {
    let network = pair.topology.add_vlan_network(number, "provider", vid);
    let ports = [("left", 1), ("right", 2)].map(|(host, number)| pair.topology.add_port(&network, host, number));
    pair.topology.write(&pair.topology_file)?;
    Ok((network, ports))
}

fn boot(pair: &Pair, ports: &[Port]) -> Result<Vec<Machine>> {
    ports.iter().map(|port| pair.host(&port.host).boot(pair.lab.world(), port)).collect()
}

/// VLAN 100 with a machine on each host, which reach each other.
fn running() -> Result<(Pair, Network, Vec<Machine>)> {
    let mut pair = Pair::wired()?;
    let (network, ports) = add_vlan(&mut pair, 20, 100)?;
    for (name, _) in HOSTS {
        pair.start_with(name, BY_INTERFACE)?;
    }
    let machines = boot(&pair, &ports)?;
    settle(&pair, &machines)?;
    Ok((pair, network, machines))
}

fn settle(pair: &Pair, machines: &[Machine]) -> Result<()> {
    machines[0].wait_for(machines[1].port.ipv4())?;
    machines[1].wait_for(machines[0].port.ipv6())?;
    HOSTS.iter().try_for_each(|(name, _)| nothing_to_do(pair.host(name)))
}

/// Whether a VLAN device is the 8021q module's own.
fn is_8021q(host: &Host) -> Result<bool> {
    Ok(host.run(&format!("ip -d link show {DEVICE}"))?.contains("vlan protocol 802.1Q"))
}

fn master(host: &Host, device: &str) -> Result<Option<String>> {
    let line = host.run(&format!("ip -o link show {device}"))?;
    Ok(line.split("master ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned))
}

#[test]
fn machines_of_a_vlan_reach_each_other_by_a_device_in_its_bridge_while_the_nic_stays_where_it_is() -> Result<()> {
    let (pair, network, machines) = running()?;
    machines[0].ping(machines[1].port.ipv4(), 20)?;
    machines[1].ping(machines[0].port.ipv6(), 20)?;
    let server = machines[1].serve_iperf(pair.folder())?;
    ensure!(machines[0].iperf(machines[1].port.ipv4(), 1)? > 1e8);
    drop(server);
    let host = pair.host("left");
    ensure!(master(host, DEVICE)? == Some(network.bridge()) && master(host, NIC)?.is_none());
    let addresses = host.run(&format!("ip -6 address show dev {DEVICE}"))?;
    ensure!(addresses.is_empty(), "the device has IPv6 of its own: {addresses}");
    let delivered = host.counted("from_uplink", NIC, "decapsulated")?;
    ensure!(delivered >= 40, "only {delivered} frames went from the NIC straight to the tap");
    let row = &host.show("networks")?[1];
    ensure!(row["uplink"] == DEVICE && row["segmentation_id"] == 100 && row["network_type"] == "vlan", "{row}");
    ensure!(row["physical_network"] == "provider" && row["uplink_exists"] == true, "{row}");
    Ok(())
}

#[test]
fn two_vlans_of_one_nic_are_isolated_from_each_other() -> Result<()> {
    let (mut pair, _, machines) = running()?;
    let (_, ports) = add_vlan(&mut pair, 21, 200)?;
    let others = boot(&pair, &ports)?;
    settle(&pair, &others)?;
    // A machine of the other VLAN that pretends to be of this one, and finds nobody here; the one that it looks for is there.
    others[0].run("ip address add 10.0.20.77/24 dev eth0")?;
    let ping = format!("ping -c 2 -i 0.1 -W 1 -I 10.0.20.77 {}", machines[1].port.ipv4());
    ensure!(others[0].run(&ping).is_err(), "the machines of another VLAN are in reach");
    machines[0].ping(machines[1].port.ipv4(), 5)?;
    others[0].ping(others[1].port.ipv4(), 5)
}

#[test]
fn a_nic_can_carry_tunnels_a_flat_network_and_vlans_at_once() -> Result<()> {
    let mut pair = Pair::bare()?;
    let flat = pair.topology.add_flat_network(30, "provider");
    let flat_ports = ["left", "right"].map(|host| {
        let number = if host == "left" { 3 } else { 4 };
        pair.topology.add_port(&flat, host, number)
    });
    let (vlan, vlan_ports) = add_vlan(&mut pair, 20, 100)?;
    for (name, _) in HOSTS {
        let config = format!("[linux_bridge]\nphysical_interface_mappings = provider:{UPLINK}\n");
        pair.start_with(name, &config)?;
    }
    pair.boot()?;
    pair.settle()?;
    let (flat_machines, vlan_machines) = (boot(&pair, &flat_ports)?, boot(&pair, &vlan_ports)?);
    settle(&pair, &flat_machines)?;
    settle(&pair, &vlan_machines)?;
    pair.ping_all(10)?;
    flat_machines[0].ping(flat_machines[1].port.ipv4(), 10)?;
    vlan_machines[0].ping(vlan_machines[1].port.ipv4(), 10)?;
    let host = pair.host("left");
    ensure!(master(host, UPLINK)? == Some(flat.bridge()));
    ensure!(master(host, &format!("{UPLINK}.100"))? == Some(vlan.bridge()));
    Ok(())
}

#[test]
fn restarting_killing_replacing_and_detaching_an_agent_loses_no_packet_of_a_vlan() -> Result<()> {
    let (mut pair, _, machines) = running()?;
    let streams = [
        Stream::start(pair.folder(), &machines[0].namespace, machines[1].port.ipv4())?,
        Stream::start(pair.folder(), &machines[1].namespace, machines[0].port.ipv6())?,
    ];
    pair.replace_agent(Signal::SIGTERM, Lanes::Both, |_| Ok(()))?;
    pair.replace_agent(Signal::SIGKILL, Lanes::Both, |_| Ok(()))?;
    pair.replace_agent(Signal::SIGTERM, Lanes::Both, Host::pretend_to_be_older)?;
    pair.replace_agent(Signal::SIGTERM, Lanes::Both, |host| host.overlane("detach").map(drop))?;
    for stream in streams {
        stream.expect_no_loss()?;
    }
    Ok(())
}

#[test]
fn after_detach_only_what_carries_a_vlan_is_attached_and_purge_ends_it() -> Result<()> {
    let (mut pair, network, machines) = running()?;
    pair.agents.remove(0).stop(Signal::SIGTERM)?;
    let host = pair.host("left");
    if !is_8021q(host)? {
        // What another version has left cannot be taken apart, and is not thrown away.
        host.pretend_to_be_older()?;
        ensure!(
            host.overlane("detach").is_err_and(|error| format!("{error:#}").contains("another version carry VLANs"))
        );
        machines[0].ping(machines[1].port.ipv4(), 5)?;
        std::fs::rename(host.older_pins(), host.pins()).context("making it the current version")?;
    }
    let said = host.overlane("detach")?;
    let expected = if is_8021q(host)? { ["", "", ""] } else { ["from_uplink", "to_vlan", ""] };
    let tap = machines[0].port.tap();
    // The kernel detaches some time after it was told to.
    wait_until("only what carries the VLAN is attached", || {
        let attached: Result<Vec<String>> =
            [NIC, DEVICE, &tap].iter().map(|device| Ok(host.attached(device)?.concat())).collect();
        Ok(attached? == expected)
    })?;
    ensure!(said.contains(DEVICE) != is_8021q(host)?, "{said}");
    let before = host.counted("from_uplink", NIC, "decapsulated")?;
    machines[0].ping(machines[1].port.ipv4(), 10)?;
    ensure!(host.counted("from_uplink", NIC, "decapsulated")? == before, "the fast lane still delivers");
    host.overlane("detach --purge")?;
    let links = host.run("ip -o link")?;
    ensure!(!links.contains(DEVICE) && !links.contains(&network.bridge()), "{links}");
    ensure!(links.contains(NIC) && !host.pins().exists());
    wait_until("nothing is attached", || Ok(host.attached(NIC)?.is_empty()))
}

#[test]
fn a_vlan_device_that_is_deleted_or_taken_down_or_out_of_its_bridge_is_repaired() -> Result<()> {
    let (pair, network, machines) = running()?;
    let host = pair.host("left");
    let bridge = network.bridge();
    for damage in [
        format!("link delete {DEVICE}"),
        format!("link set {DEVICE} down"),
        format!("link set {DEVICE} nomaster"),
        format!("link delete {bridge}"),
    ] {
        host.run(&format!("ip {damage}"))?;
        wait_until("the agent repairs it", || {
            let is_up = host.run(&format!("ip -o link show {DEVICE}"))?.contains(",UP");
            Ok(is_up && master(host, DEVICE)? == Some(bridge.clone()))
        })?;
        settle(&pair, &machines).with_context(|| format!("after ip {damage}"))?;
    }
    Ok(())
}

#[test]
fn a_vlan_that_leaves_the_host_takes_its_device_along_and_nothing_else() -> Result<()> {
    let mut pair = Pair::wired()?;
    pair.topology.ports.clear();
    pair.host("left").run(&format!("ip address add 192.0.2.1/24 dev {NIC}"))?;
    let picture = |pair: &Pair| -> Result<(Vec<String>, String)> {
        let host = pair.host("left");
        let links = host.run("ip -o link")?;
        let names = links.lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned())).collect();
        Ok((names, host.run(&format!("ip -o address show dev {NIC} scope global"))?))
    };
    let before = picture(&pair)?;
    add_vlan(&mut pair, 20, 100)?;
    pair.start_with("left", BY_INTERFACE)?;
    nothing_to_do(pair.host("left"))?;
    ensure!(pair.host("left").run("ip -o link")?.contains(DEVICE));
    pair.topology.ports.clear();
    pair.topology.write(&pair.topology_file)?;
    wait_until("everything is as it was", || Ok(picture(&pair)? == before))?;
    nothing_to_do(pair.host("left"))
}

#[test]
fn the_mtu_and_the_vid_of_a_network_can_change() -> Result<()> {
    let (mut pair, network, machines) = running()?;
    let tap = machines[0].port.tap();
    let index = pair.topology.networks.iter().position(|other| other.id == network.id).context("the network")?;
    pair.topology.networks[index].mtu = Some(1400);
    pair.topology.networks[index].segmentation_id = Some(4094);
    pair.topology.write(&pair.topology_file)?;
    let host = pair.host("left");
    let device = "phys0.4094";
    wait_until("the device follows", || {
        Ok([device, tap.as_str()]
            .iter()
            .all(|device| host.run(&format!("ip -o link show {device}")).is_ok_and(|line| line.contains("mtu 1400"))))
    })?;
    ensure!(!host.run("ip -o link")?.contains(DEVICE), "the old VLAN is still connected");
    settle(&pair, &machines)?;
    machines[0].ping(machines[1].port.ipv4(), 5)
}

#[test]
fn a_network_that_is_larger_than_its_nic_says_what_does_not_fit() -> Result<()> {
    let mut pair = Pair::wired()?;
    let (_, ports) = add_vlan(&mut pair, 20, 100)?;
    let last = pair.topology.networks.len() - 1;
    pair.topology.networks[last].mtu = Some(1500);
    pair.topology.write(&pair.topology_file)?;
    pair.host("left").run(&format!("ip link set {NIC} mtu 1400"))?;
    pair.start_with("left", BY_INTERFACE)?;
    pair.start_with("right", BY_INTERFACE)?;
    pair.agents[0].wait_for_log("phys0 has MTU 1400, less than the network's 1500")?;
    let machines = boot(&pair, &ports)?;
    machines[0].wait_for(ports[1].ipv4())?;
    pair.host("left").run(&format!("ip link set {NIC} mtu 1500"))?;
    pair.agents[0].wait_for_log("no longer: ")?;
    settle(&pair, &machines)
}

#[test]
fn what_stands_in_the_way_of_a_vlan_is_named_and_holds_back_nothing_else() -> Result<()> {
    let by_bridge = format!("[linux_bridge]\nbridge_mappings = provider:{OUTSIDE}\n");
    for (more, preparation, expected) in [
        ("", "", "physical network \"provider\" is neither in [linux_bridge] physical_interface_mappings"),
        (by_bridge.as_str(), "", "its VLANs need a NIC in physical_interface_mappings"),
        (BY_INTERFACE, "link delete phys0", "there is no interface phys0, which physical_interface_mappings names"),
        (BY_INTERFACE, "link add phys0.100 type bridge", "phys0.100 is a bridge, but the name is needed for the VLAN"),
        (BY_INTERFACE, "link add phys0.100 type ifb", "phys0.100 is a device of kind ifb, but the name is needed"),
    ] {
        let mut pair = Pair::wired()?;
        let (_, ports) = add_vlan(&mut pair, 20, 100)?;
        if !preparation.is_empty() {
            pair.host("left").run(&format!("ip {preparation}"))?;
        }
        pair.expect_only_blocked(&ports[0], more, expected)?;
        // What no look at the host can mend is an error of the configuration as well.
        ensure!(pair.host("left").overlane("config check").is_err() == (more != BY_INTERFACE));
    }
    Ok(())
}

#[test]
fn without_ebpf_a_vlan_needs_the_8021q_module_and_the_agent_says_so() -> Result<()> {
    let (mut pair, _, machines) = running()?;
    let has_8021q = is_8021q(pair.host("left"))?;
    pair.agents.remove(0).stop(Signal::SIGTERM)?;
    let agent = pair.host("left").start_agent(&pair.topology_file, Lanes::KernelOnly)?;
    if has_8021q {
        return machines[0].ping(machines[1].port.ipv4(), 5);
    }
    agent.wait_for_log("phys0.100 sends and receives by eBPF, but [overlane] fast_path is off")?;
    pair.host("left").run(&format!("ip link delete {DEVICE}"))?;
    agent.wait_for_log("the kernel has no 8021q module, so that VLANs need eBPF, but [overlane] fast_path is off")?;
    ensure!(!pair.host("left").run("ip -o link")?.contains(DEVICE), "a device was made that cannot send");
    pair.agents.push(agent);
    Ok(())
}

#[test]
fn verify_explains_what_a_vlan_lacks() -> Result<()> {
    let (mut pair, _, machines) = running()?;
    let host = pair.lab.host("left");
    ensure!(host.overlane("verify")?.starts_with("Desired state, kernel and maps agree."));
    pair.agents.remove(0).stop(Signal::SIGTERM)?;
    host.run(&format!("ip link delete {DEVICE}"))?;
    let Err(error) = host.overlane("verify") else { anyhow::bail!("nothing was found") };
    let expected =
        format!("VLAN device {DEVICE} does not exist; network net20 needs it for {} (there)", machines[0].port.tap());
    ensure!(format!("{error:#}").contains(&expected), "{error:#}");
    Ok(())
}
