//! As a service: what the unit file grants is enough and no more than that, and the service manager hears what is true.

use std::{io::ErrorKind, os::unix::net::UnixDatagram, time::Duration};

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Host, Lanes, Machine, Pair, Process, nothing_to_do, overlane_binary},
    wait::wait_until,
};

const UNIT: &str = include_str!("../../agent/systemd/overlane.service");
/// What comes on top of it on network nodes.
const NETWORK_NODE: &str = include_str!("../../agent/systemd/network-node.conf");

/// The capabilities that the unit file grants, as `setpriv` spells them.
fn granted() -> Result<Vec<String>> {
    let granted = granted_by(UNIT);
    ensure!(!granted.is_empty(), "no capabilities");
    Ok(granted)
}

/// Several lines add up.
fn granted_by(unit: &str) -> Vec<String> {
    let sets = unit.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    sets.flat_map(|set| set.split(' ')).map(|name| name.to_lowercase().replace("cap_", "")).collect()
}

/// Starts the agent of a configured host with these capabilities, as root without any other.
fn start_with(host: &Host, capabilities: &[String]) -> Result<Process> {
    let set: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let agent = format!("{} agent --config-file {}", overlane_binary().display(), host.config_file().display());
    let confined = format!("setpriv --no-new-privs --bounding-set=-all{set} --inh-caps=-all {agent}");
    host.namespace.start(&confined, &host.folder().join("confined.log"))
}

#[test]
fn the_capabilities_of_the_unit_file_are_enough() -> Result<()> {
    let mut pair = Pair::bare()?;
    let network = pair.topology.add_flat_network(20, "provider");
    pair.topology.add_port(&network, "left", 1);
    pair.topology.write(&pair.topology_file)?;
    let host = pair.host("left");
    // What needs privileges: devices, addresses and routes that move, switching IPv6 on, maps, programs, pins.
    for line in ["link add phys0 up type veth peer name far", "address add 2001:db8::1/64 dev phys0 nodad"] {
        host.run(&format!("ip {line}"))?;
    }
    host.run("ip route add 2001:db8:1::/64 via 2001:db8::2 dev phys0")?;
    host.add_config("unused_device_grace_secs = 0\n[linux_bridge]\nphysical_interface_mappings = provider:phys0\n");
    host.configure(&pair.topology_file, Lanes::Both)?;
    let agent = start_with(host, &granted()?)?;
    let _machine = host.boot(pair.lab.world(), &pair.ports[0])?;
    wait_until("the port is on the fast lane", || {
        let row = &host.show("ports")?[0];
        Ok(row["state"] == "active" && row["lane"] == "fast")
    })?;
    nothing_to_do(host)?;
    ensure!(host.run(&format!("ip address show dev {}", network.bridge()))?.contains("2001:db8::1"));
    // One by one: the agent is putting them back already.
    host.run(&format!("find {} -type f -delete", host.pins().display()))?;
    wait_until("the pins are back", || Ok(host.pins().join("links").read_dir()?.count() >= 4))?;
    pair.topology.networks.pop();
    pair.topology.ports.pop();
    pair.topology.write(&pair.topology_file)?;
    let host = pair.host("left");
    wait_until("the NIC has its address back", || {
        Ok(host.run("ip address show dev phys0")?.contains("2001:db8::1")
            && !host.run("ip link")?.contains(&network.bridge()))
    })?;
    let log = agent.output()?;
    let is_refused = |line: &&str| line.contains("permission") || line.contains("not permitted");
    ensure!(!log.to_lowercase().lines().any(|line| is_refused(&line)), "{log}");
    // The agent has had no other ones.
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("capabilities")?;
    let effective = u64::from_str_radix(effective.trim(), 16)?;
    ensure!(effective.count_ones() as usize == granted()?.len(), "{effective:x}");
    Ok(())
}

#[test]
fn the_capabilities_of_a_network_node_are_enough_for_its_services() -> Result<()> {
    let mut pair = Pair::bare()?;
    ["left", "right"].iter().for_each(|host| pair.topology.make_network_node(host));
    let network = pair.topology.add_network(30);
    pair.topology.add_dhcp(&network, "left", 3);
    // On this host it becomes active, as the other one is not there.
    let router = pair.topology.add_router(1, &["left", "right"]);
    pair.topology.add_interface(&router, &network);
    let port = pair.topology.add_port(&network, "left", 9);
    pair.topology.write(&pair.topology_file)?;
    let host = pair.host("left");
    host.configure(&pair.topology_file, Lanes::Both)?;
    let _agent = start_with(host, &[granted()?, granted_by(NETWORK_NODE)].concat())?;
    let machine = Machine::off(pair.lab.world(), "vm", &port)?;
    machine.power_on_without_addresses(host)?;
    let lease = machine.lease(pair.lab.world())?;
    ensure!(lease.get("ip").map(String::as_str) == Some(machine.port.ipv4()), "{lease:?}");
    machine.wait_for("10.0.30.1")?;
    wait_until("the metadata service answers", || {
        Ok(machine.run("curl --silent --fail --max-time 2 http://169.254.169.254/latest/meta-data/local-ipv4")?
            == machine.port.ipv4())
    })?;
    nothing_to_do(host)
}

#[test]
fn without_any_of_the_capabilities_something_is_missing_and_the_log_says_what() -> Result<()> {
    for left_out in granted()? {
        let pair = Pair::bare()?;
        let host = pair.host("left");
        host.configure(&pair.topology_file, Lanes::Both)?;
        let capabilities: Vec<String> = granted()?.into_iter().filter(|name| *name != left_out).collect();
        let agent = start_with(host, &capabilities)?;
        let named = format!("CAP_{}", left_out.to_uppercase());
        wait_until(&format!("the agent misses {named}"), || {
            let log = agent.output()?;
            ensure!(log.contains(&named), "{log}");
            Ok(true)
        })?;
    }
    Ok(())
}

/// Starts the agent of a host under a service manager, which is the socket that is returned.
fn serve(host: &Host, watchdog: Option<Duration>) -> Result<(Process, UnixDatagram)> {
    let path = host.folder().join("notify");
    let socket = UnixDatagram::bind(&path).context("listening as the service manager")?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut command = host.namespace.command(overlane_binary());
    command.arg("agent").arg("--config-file").arg(host.config_file()).env("NOTIFY_SOCKET", &path);
    command.envs(watchdog.map(|limit| ("WATCHDOG_USEC", limit.as_micros().to_string())));
    let agent = Process::start(&mut command, &host.folder().join("notified.log"), false)?;
    Ok((agent, socket))
}

fn hear(socket: &UnixDatagram, heard: &mut String) -> Result<()> {
    let mut buffer = [0; 256];
    // With a limit to its patience, a call that a signal interrupts is not taken up again by itself.
    let received = loop {
        match socket.recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            received => break received,
        }
    };
    let length = received.with_context(|| format!("heard only {heard:?}"))?;
    heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
    heard.push('\n');
    Ok(())
}

#[test]
fn the_service_manager_hears_when_the_agent_is_ready_and_that_it_makes_progress() -> Result<()> {
    let pair = Pair::bare()?;
    let host = pair.host("left");
    host.configure(&pair.topology_file, Lanes::Both)?;
    let (_agent, socket) = serve(host, None)?;
    let mut heard = String::new();
    while !heard.contains("READY=1") || heard.matches("WATCHDOG=1").count() < 2 {
        hear(&socket, &mut heard)?;
    }
    // Until then it has asked for time: a large host takes longer than a service manager's patience.
    ensure!(heard.find("EXTEND_TIMEOUT_USEC=") < heard.find("READY=1"), "{heard}");
    Ok(())
}

#[test]
fn an_idle_agent_makes_a_pass_as_often_as_the_watchdog_wants() -> Result<()> {
    let pair = Pair::bare()?;
    let host = pair.host("left");
    host.configure(&pair.topology_file, Lanes::Both)?;
    let (_agent, socket) = serve(host, Some(Duration::from_secs(2)))?;
    let mut heard = String::new();
    // Far less than thirty seconds apart, or the socket's own patience ends.
    while heard.matches("WATCHDOG=1").count() < 8 {
        hear(&socket, &mut heard)?;
    }
    Ok(())
}
