//! Machines of a mixed cloud reach each other in both directions, and get their addresses by DHCP.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Connection, send_udp},
    neutron::{Agent, Bed, Cloud, host_of, in_root},
};
use serde_json::json;

expect_of_both_agents! {
    machines_reach_each_other
    a_machine_gets_its_address_by_dhcp
}

const PINGS: u32 = 20;

fn machines_reach_each_other(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, subject)?;
    bed.wait_until_connected()?;
    let ([left, right], [left_port, right_port]) = (&bed.machines, &bed.ports);
    for (from, to, port) in [(left, right, right_port), (right, left, left_port)] {
        from.ping(port.ipv4(), PINGS)?;
        from.ping(port.ipv6(), PINGS)?;
        let mut connection = Connection::open(from, to, port.ipv4(), 80)?.context("TCP gets no answer")?;
        ensure!(connection.is_alive()?);
        ensure!(send_udp(from, to, port.ipv4(), 53, 4000)?, "a fragmented packet does not arrive");
    }
    Ok(())
}

fn a_machine_gets_its_address_by_dhcp(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let network = cloud.bare_network(&json!({}))?;
    cloud.subnet(&network, &json!({"cidr": "10.0.0.0/24"}))?;
    let port = cloud.port(&network, host_of(subject), &json!({}))?;
    let machine = cloud.boot(&network, &port)?;
    machine.run("ip address flush dev eth0")?;
    // It says so on stderr; setting the address is not what is tested.
    let ask = "udhcpc -i eth0 -n -q -f -s /bin/true 2>&1";
    let lease = machine.namespace.execute(in_root("sh").args(["-c", ask]))?;
    let expected = format!("lease of {} obtained", port.ipv4());
    ensure!(lease.contains(&expected), "not {expected:?}: {lease}");
    Ok(())
}
