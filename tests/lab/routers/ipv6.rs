//! Router advertisements: machines that make their own addresses.

use anyhow::{Result, ensure};
use overlane_tests::{
    lab::{Machine, Routed},
    wait::wait_until,
};

#[test]
fn a_machine_makes_its_address_of_the_advertised_prefix_and_reaches_the_outside_by_it() -> Result<()> {
    // EUI-64 of the MAC address that a port with this number has.
    const ADDRESS: &str = "fd00:10::f816:3eff:fe00:a21";
    let mut of_machine = None;
    let routed = Routed::running_with(|routed| {
        let network = routed.topology.networks.iter_mut().find(|network| network.id == routed.inside[0].id);
        for subnet in network.expect("there is one").subnets.iter_mut().filter(|subnet| subnet.cidr.contains(':')) {
            subnet.ipv6_ra_mode = Some("slaac".to_owned());
            subnet.ipv6_address_mode = Some("slaac".to_owned());
        }
        routed.topology.add_port(&routed.inside[0], "compute", 33);
        let port = routed.topology.ports.last_mut().expect("just added");
        port.mac_address = "fa:16:3e:00:0a:21".to_owned();
        port.fixed_ips[1] = ADDRESS.to_owned();
        of_machine = Some(port.clone());
        Ok(())
    })?;
    let port = of_machine.expect("prepared");
    let machine = Machine::off(routed.lab.world(), "slaac", &port)?;
    machine.power_on_without_addresses(routed.lab.host("compute"))?;
    let shows = |line: &str, part: &str| -> Result<bool> { Ok(machine.run(line)?.contains(part)) };
    wait_until("it has made its address", || {
        let addresses = machine.run("ip -6 address show dev eth0 scope global")?;
        Ok(addresses.contains(ADDRESS) && !addresses.contains("tentative"))
    })?;
    ensure!(shows("ip -6 route show default", "via fe80::f816:3eff:fe00:a01")?);
    machine.ping(routed.outside_ipv6(), 5)?;
    // The one who advertises is missed when it dies.
    let advertisers = || -> Result<Vec<String>> {
        let pids = routed.node().run(&format!("ip netns pids {}", routed.namespace()))?;
        let is_radvd =
            |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "radvd");
        Ok(pids.split_whitespace().filter(is_radvd).map(str::to_owned).collect())
    };
    let before = advertisers()?;
    ensure!(!before.is_empty());
    for pid in &before {
        routed.node().run(&format!("kill -KILL {pid}"))?;
    }
    wait_until("another one advertises", || Ok(advertisers()?.iter().any(|pid| !before.contains(pid))))
}
