//! How long a machine waits for its address.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Host, Lanes, Machine, Pair, Port, Process, nothing_to_do},
    wait::{wait_at_most, wait_until},
};

use super::asking::ask;
use crate::figures::Figures;

const ROUNDS: usize = 21;
/// Numbers of ports: 200 of them, half on each host.
const MACHINES: std::ops::Range<u8> = 10..210;
const LONGEST: Duration = Duration::from_secs(60);

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    one_by_one(figures).context("leases one by one")?;
    many_at_once(figures).context("many leases at once")
}

/// A network with a DHCP server on the left host, and these ports by number and host.
fn running(numbers: impl IntoIterator<Item = (u8, &'static str)>) -> Result<(Pair, Vec<Port>)> {
    let mut pair = Pair::bare()?;
    pair.topology.make_network_node("left");
    let network = pair.network.clone();
    let server = pair.topology.add_dhcp(&network, "left", 3);
    let ports = numbers.into_iter().map(|(number, host)| pair.topology.add_port(&network, host, number)).collect();
    pair.topology.write(&pair.topology_file)?;
    for name in ["left", "right"] {
        let agent = pair.lab.host(name).start_agent(&pair.topology_file, Lanes::Both)?;
        pair.agents.push(agent);
    }
    wait_until("the DHCP server runs", || Ok(pair.host("left").show("dhcp")?[0]["pid"].is_u64()))?;
    wait_until("its tap is connected", || {
        Ok(pair.host("left").run(&format!("ip -o link show {}", server.tap()))?.contains(" master brq"))
    })?;
    Ok((pair, ports))
}

/// Makes the interface of a machine, behind a device that is no tap yet, and returns what it takes to make that a tap.
fn prepare(machine: &Machine, host: &Host) -> Result<String> {
    let (tap, mac, name) = (machine.port.tap(), &machine.port.mac_address, machine.namespace.name());
    let device = tap.replacen("tap", "new", 1);
    host.run(&format!("ip link add {device} type veth peer name eth0 netns {name} address {mac}"))?;
    machine.run("ip link set eth0 up")?;
    Ok(format!("link set {device} name {tap} up\n"))
}

/// From the tap's appearance until the machine has a lease; the machine is on another host than the server.
fn one_by_one(figures: &mut Figures) -> Result<()> {
    let (pair, ports) = running([(9, "right")])?;
    let machine = Machine::off(pair.lab.world(), "probe", &ports[0])?;
    let host = pair.host("right");
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let appear = prepare(&machine, host)?;
        let begun = Instant::now();
        host.run(&format!("ip {appear}"))?;
        let address = machine.namespace.inside(|| ask(machine.port.mac()))?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        ensure!(address.to_string() == machine.port.ipv4(), "{address} is another machine's");
        host.run(&format!("ip link delete {}", machine.port.tap()))?;
        nothing_to_do(host)?;
    }
    figures.add("tap_to_lease", "ms", times);
    Ok(())
}

/// From the appearance of the first tap until the last machine has its lease, with real clients that ask every second.
fn many_at_once(figures: &mut Figures) -> Result<()> {
    let place = |number: u8| (number, if number.is_multiple_of(2) { "left" } else { "right" });
    let (pair, ports) = running(MACHINES.map(place))?;
    let world = pair.lab.world();
    let machine = |port: &Port| Machine::off(world, &format!("vm-{}", port.tap()), port);
    let machines: Vec<Machine> = ports.iter().map(machine).collect::<Result<_>>()?;
    let mut batches = [("left", String::new()), ("right", String::new())];
    for machine in &machines {
        let (name, batch) = &mut batches[usize::from(machine.port.host == "right")];
        *batch += &prepare(machine, pair.host(name))?;
    }
    let clients: Vec<Process> =
        machines.iter().map(|machine| machine.start_dhcp_client(world)).collect::<Result<_>>()?;
    wait_until("all clients ask", || {
        clients.iter().try_fold(true, |all, client| Ok(all && client.output()?.contains("discover")))
    })?;
    let file = |name: &str| -> PathBuf { pair.folder().join(format!("batch-{name}")) };
    for (name, batch) in &batches {
        fs::write(file(name), batch).context("writing a batch")?;
    }
    let begun = Instant::now();
    for (name, _) in &batches {
        pair.host(name).run(&format!("ip -batch {}", file(name).display()))?;
    }
    let lease = |client: &Process, machine: &Machine| -> Result<bool> {
        Ok(client.output()?.contains(&format!("lease of {} obtained", machine.port.ipv4())))
    };
    wait_at_most(LONGEST, "all machines have their leases", || {
        let all = clients
            .iter()
            .zip(&machines)
            .try_fold(true, |all, (client, machine)| Ok::<_, anyhow::Error>(all && lease(client, machine)?))?;
        Ok(all.then_some(()))
    })?;
    figures.add("lease_200_vms", "s", vec![begun.elapsed().as_secs_f64()]);
    Ok(())
}
