//! The metadata service, asked by curl and by whoever means it harm.

mod hostile;
mod networks;
mod nova;
mod state;

use anyhow::{Context as _, Result};
use overlane_core::services::metadata::{Instance, State};
use overlane_tests::{
    lab::{Namespace, World},
    metadata::{MetadataService, instance, network_id, socket},
};

const ADDRESS: &str = "169.254.169.254";
const LINK_LOCAL: &str = "fe80::a9fe:a9fe";

/// A host that serves, and machines that ask, each on a wire of its own to a namespace like a qdhcp.
struct Clouds {
    // Ends before the namespaces that it listens in.
    service: MetadataService,
    state: State,
    machines: Vec<Namespace>,
    networks: Vec<Namespace>,
    host: Namespace,
    world: World,
}

impl Clouds {
    /// As many networks as there are ids, each with one machine; all use the same addresses. `change` changes what is served.
    fn new(ids: &[&str], change: impl FnOnce(&mut State)) -> Result<Self> {
        let world = World::private()?;
        let host = world.namespace("host")?;
        host.run("ip address add 192.0.2.1/32 dev lo")?;
        let mut state = State::default();
        let (mut networks, mut machines) = (Vec::new(), Vec::new());
        for (number, id) in (1..).zip(ids) {
            let network = world.namespace(&format!("qdhcp-{number}"))?;
            let machine = world.namespace(&format!("vm-{number}"))?;
            wire(&network, &machine, number)?;
            let served = [network_id(number.into())];
            state.sockets.push(socket(&network, ADDRESS, None, 80, &served)?);
            state.sockets.push(socket(&network, LINK_LOCAL, Some("ns-1"), 80, &served)?);
            state.instances.push(instance(id, served[0], &mac(number), &["10.0.0.5"])?);
            networks.push(network);
            machines.push(machine);
        }
        change(&mut state);
        let service = MetadataService::start(&host, world.folder(), &state)?;
        Ok(Self { service, state, machines, networks, host, world })
    }

    /// Changes what is served.
    fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<()> {
        change(&mut self.state);
        self.service.tell(&self.state)
    }

    /// The machine of the first network.
    fn machine(&self) -> &Namespace {
        &self.machines[0]
    }
}

/// The MAC address of the machine with a number.
fn mac(number: u8) -> String {
    format!("fa:16:3e:00:00:{number:02x}")
}

/// Connects a machine to its network's namespace, which has the addresses of the service.
fn wire(network: &Namespace, machine: &Namespace, number: u8) -> Result<()> {
    let (mac, name) = (mac(number), machine.name());
    network.run(&format!("ip link add ns-1 type veth peer name eth0 address {mac} netns {name}"))?;
    for address in ["10.0.0.2/24", &format!("{ADDRESS}/32"), &format!("{LINK_LOCAL}/64 nodad")] {
        network.run(&format!("ip address add {address} dev ns-1"))?;
    }
    machine.set_parameter("net/ipv6/conf/eth0/accept_dad", "0")?;
    for (namespace, interface) in [(network, "ns-1"), (machine, "eth0")] {
        namespace.run(&format!("ip link set {interface} up"))?;
    }
    machine.run("ip address add 10.0.0.5/24 dev eth0")?;
    machine.run(&format!("ip route add {ADDRESS}/32 via 10.0.0.2"))?;
    Ok(())
}

/// What curl gets for a path, with further options; the last line is the status.
fn curl(machine: &Namespace, path: &str, options: &[&str]) -> Result<(String, String)> {
    let output = curl_url(machine, &format!("http://{ADDRESS}{path}"), options)?;
    let (body, status) = output.rsplit_once('\n').context("a status")?;
    Ok((status.to_owned(), body.to_owned()))
}

fn curl_url(machine: &Namespace, url: &str, options: &[&str]) -> Result<String> {
    let mut command = machine.command("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--globoff", "--path-as-is"]);
    command.args(["--write-out", "\n%{http_code}", "--noproxy", "*"]).args(options).arg(url);
    machine.execute(&mut command)
}

/// What a machine gets with status 200.
fn get(machine: &Namespace, path: &str) -> Result<String> {
    let (status, body) = curl(machine, path, &[])?;
    anyhow::ensure!(status == "200", "{path}: status {status}\n{body}");
    Ok(body)
}

/// A machine with everything.
fn furnish(instance: &mut Instance) {
    instance.user_data = Some((0..=255).collect());
    instance.keys.insert("mine".to_owned(), "ssh-ed25519 AAAA me@example".to_owned());
    instance.availability_zone = Some("nova".to_owned());
    instance.project_id = Some("a-project".to_owned());
    instance.interfaces[0].fixed_ips[0].floating_ip = "203.0.113.7".parse().ok();
}
