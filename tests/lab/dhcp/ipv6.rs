//! DHCPv6, with ISC's client, and advertisements where there is no router.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{DhcpOption, Lanes, Machine},
    wait::wait_until,
};

use super::{Cloud, same};

/// Asks for an address, or with `-S` for everything else, and returns what the server says, by the client's names.
fn ask(cloud: &Cloud, machine: &Machine, how: &str) -> Result<String> {
    let folder = cloud.pair.folder().join(format!("dhclient-{}", machine.namespace.name()));
    fs::create_dir_all(&folder).context("making a folder")?;
    let (script, said) = (folder.join("script"), folder.join("said"));
    let text = format!(
        "#!/bin/sh\nenv >>{}\nif [ -n \"$new_ip6_address\" ]; then ip address replace \"$new_ip6_address/64\" dev eth0 nodad; fi\n",
        said.display()
    );
    fs::write(&script, text).context("writing a script")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).context("making a script executable")?;
    wait_until("the machine has a link-local address", || {
        let addresses = machine.run("ip -6 -o address show dev eth0 scope link")?;
        Ok(addresses.contains("fe80::") && !addresses.contains("tentative"))
    })?;
    let folder = folder.display();
    // What asks is in the background no sooner than it has an answer.
    machine.run(&format!(
        "timeout 60 dhclient -6 {how} -1 -cf /dev/null -lf {folder}/leases -pf {folder}/pid -sf {folder}/script eth0"
    ))?;
    fs::read_to_string(&said).context("reading what the server has said")
}

fn modes(cloud: &mut overlane_tests::lab::Topology, mode: &str) {
    let subnet = &mut cloud.networks[0].subnets[1];
    (subnet.ipv6_address_mode, subnet.ipv6_ra_mode) = (Some(mode.to_owned()), Some(mode.to_owned()));
}

#[test]
fn a_stateful_subnet_gives_out_addresses_and_options() -> Result<()> {
    let cloud = Cloud::with(Lanes::Both, |topology, _| {
        modes(topology, "dhcpv6-stateful");
        topology.networks[0].subnets[1].dns_nameservers = vec!["fd00:10::53".to_owned()];
        let option =
            DhcpOption { opt_name: "ntp-server".to_owned(), opt_value: "[fd00:10::123]".to_owned(), ip_version: 6 };
        topology.ports[1].extra_dhcp_opts.push(option);
    })?;
    let machines = cloud.boot_both()?;
    for machine in &machines {
        let said = ask(&cloud, machine, "")?;
        ensure!(said.contains(&format!("new_ip6_address={}", machine.port.ipv6())), "{said}");
        ensure!(said.contains("new_dhcp6_name_servers=fd00:10::53"), "{said}");
    }
    machines[0].wait_for(machines[1].port.ipv6())?;
    let leases = cloud.read("leases")?;
    ensure!(leases.contains("duid ") && leases.contains(" fd00:10::2 "), "{leases}");
    Ok(())
}

#[test]
fn a_lease_of_ipv6_goes_with_its_port() -> Result<()> {
    let mut cloud = Cloud::with(Lanes::Both, |topology, _| modes(topology, "dhcpv6-stateful"))?;
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    ask(&cloud, &machine, "")?;
    ensure!(cloud.read("leases")?.contains(" fd00:10::2 "), "{}", cloud.read("leases")?);
    let pid = cloud.pid()?;
    cloud.pair.change(|topology| topology.ports.retain(|port| port.ipv4() != "10.0.10.2"))?;
    wait_until("the lease is released", || Ok(!cloud.read("leases")?.contains(" fd00:10::2 ")))?;
    same("the same process", cloud.pid()?, pid)
}

#[test]
fn machines_make_their_own_addresses_of_an_advertised_prefix_and_get_no_router() -> Result<()> {
    let cloud = Cloud::with(Lanes::Both, |topology, _| modes(topology, "slaac"))?;
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    wait_until("the machine has an address of the prefix", || {
        Ok(machine.run("ip -6 -o address show dev eth0 scope global")?.contains("fd00:10:"))
    })?;
    same("default routes", machine.run("ip -6 route show default")?.as_str(), "")
}

#[test]
fn a_stateless_subnet_tells_options_to_machines_that_make_their_own_addresses() -> Result<()> {
    let cloud = Cloud::with(Lanes::Both, |topology, _| {
        modes(topology, "dhcpv6-stateless");
        topology.networks[0].subnets[1].dns_nameservers = vec!["fd00:10::53".to_owned()];
    })?;
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    let said = ask(&cloud, &machine, "-S")?;
    ensure!(said.contains("new_dhcp6_name_servers=fd00:10::53"), "{said}");
    wait_until("the machine has an address of the prefix", || {
        Ok(machine.run("ip -6 -o address show dev eth0 scope global")?.contains("fd00:10:"))
    })
}
