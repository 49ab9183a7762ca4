//! Floating IPs and forwarded ports.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{lab::Routed, wait::wait_until};

use super::{call, seen_outside};

#[test]
fn a_floating_ip_leads_to_its_machine_and_is_what_the_outside_sees_of_it() -> Result<()> {
    let routed = Routed::running_with(|routed| {
        routed.topology.add_floating_ip(&routed.external, 160, Some(&routed.ports[0]));
        Ok(())
    })?;
    let [first, second] = &routed.machines[..] else { unreachable!("there are two") };
    routed.internet.ping("10.0.50.160", 5)?;
    let connection = call(&routed.internet, first, "10.0.50.160:22", 22)?.context("no answer")?;
    ensure!(connection.caller()?.to_string() == routed.outside());
    ensure!(seen_outside(&routed, first)? == "10.0.50.160");
    ensure!(seen_outside(&routed, second)? == routed.gateway());
    // From inside: by a machine of another network, and by the machine itself.
    for (caller, seen) in [(second, routed.gateway()), (first, "10.0.50.160")] {
        let connection = call(&caller.namespace, first, "10.0.50.160:22", 22)?;
        let mut connection = connection.with_context(|| format!("no answer to {}", caller.namespace.name()))?;
        ensure!(connection.is_alive()? && connection.caller()?.to_string() == seen, "{}", connection.caller()?);
    }
    Ok(())
}

#[test]
fn removing_a_floating_ip_cuts_its_connections_and_no_others() -> Result<()> {
    let mut routed = Routed::running_with(|routed| {
        routed.topology.add_floating_ip(&routed.external, 160, Some(&routed.ports[0]));
        routed.topology.add_floating_ip(&routed.external, 161, Some(&routed.ports[1]));
        Ok(())
    })?;
    let open = |index: usize, address: &str| {
        call(&routed.internet, &routed.machines[index], address, 22)?.context("no answer")
    };
    let (mut cut, mut kept) = (open(0, "10.0.50.160:22")?, open(1, "10.0.50.161:22")?);
    ensure!(cut.is_alive()? && kept.is_alive()?);
    routed.change(|topology| drop(topology.floating_ips.remove(0)))?;
    let table = routed.in_router("cat /proc/net/nf_conntrack").unwrap_or_default();
    ensure!(!table.contains("10.0.50.160"), "{table}");
    ensure!(!matches!(cut.is_alive(), Ok(true)), "the connection goes on");
    ensure!(kept.is_alive()?);
    Ok(())
}

#[test]
fn a_floating_ip_that_moves_to_another_machine_or_router_works_there_at_once() -> Result<()> {
    let mut routed = Routed::running_with(|routed| {
        routed.topology.add_floating_ip(&routed.external, 160, Some(&routed.ports[0]));
        // Another router, which has only the second network.
        let topology = &mut routed.topology;
        let other = topology.add_router(2, &["node"]);
        topology.ports.retain(|port| !(port.network_id == routed.inside[1].id && port.device_id == routed.router.id));
        topology.add_interface(&other, &routed.inside[1]);
        topology.add_gateway(&other, &routed.external, 152, 254);
        // What the machines of the first network are reached by, for the fixture's sake.
        let back =
            overlane_tests::lab::Route { destination: "10.0.10.0/24".to_owned(), nexthop: "10.0.50.151".to_owned() };
        let there =
            overlane_tests::lab::Route { destination: "10.0.20.0/24".to_owned(), nexthop: "10.0.50.152".to_owned() };
        topology.routers[0].routes.push(there);
        topology.routers[1].routes.push(back);
        Ok(())
    })?;
    let outcome = |routed: &Routed, index: usize| {
        let mut connection =
            call(&routed.internet, &routed.machines[index], "10.0.50.160:22", 22)?.context("no answer")?;
        ensure!(connection.is_alive()?);
        Ok(())
    };
    outcome(&routed, 0)?;
    let neighbor = |routed: &Routed| -> Result<Option<String>> {
        let entry = routed.internet.run("ip neighbour show to 10.0.50.160")?;
        Ok(entry.split("lladdr ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned))
    };
    let before = neighbor(&routed)?;
    let other = routed.ports[1].id.clone();
    routed.change(|topology| topology.floating_ips[0].port_id = Some(other))?;
    // Told, not asked: whoever knew the old router knows the new one.
    wait_until("the neighbours know the new router", || Ok(neighbor(&routed)? != before))?;
    outcome(&routed, 1)
}

#[test]
fn forwarded_ports_lead_to_the_ports_of_machines_by_both_protocols() -> Result<()> {
    let routed = Routed::running_with(|routed| {
        routed.topology.add_floating_ip(&routed.external, 170, None);
        let forwarding =
            |protocol: &str, external_port, index: usize, internal_port| overlane_tests::lab::PortForwarding {
                protocol: protocol.to_owned(),
                external_port,
                internal_port_id: routed.ports[index].id.clone(),
                internal_port,
            };
        let forwardings =
            vec![forwarding("tcp", 2221, 0, 22), forwarding("tcp", 2222, 1, 22), forwarding("udp", 2222, 0, 53)];
        routed.topology.floating_ips[0].port_forwardings = forwardings;
        Ok(())
    })?;
    let [first, second] = &routed.machines[..] else { unreachable!("there are two") };
    for (machine, address) in [(first, "10.0.50.170:2221"), (second, "10.0.50.170:2222")] {
        for caller in [&routed.internet, &first.namespace] {
            let mut connection = call(caller, machine, address, 22)?.context("no answer")?;
            ensure!(connection.is_alive()?, "{address} from {}", caller.name());
        }
    }
    let receiver = first.namespace.inside(|| Ok(std::net::UdpSocket::bind((first.port.ipv4(), 53))?))?;
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
    let sender = routed.internet.inside(|| Ok(std::net::UdpSocket::bind("0.0.0.0:0")?))?;
    sender.send_to(b"x", "10.0.50.170:2222")?;
    let (length, _) = receiver.recv_from(&mut [0; 8])?;
    ensure!(length == 1);
    // Any other port is nobody's.
    ensure!(call(&routed.internet, first, "10.0.50.170:2223", 22).is_err());
    Ok(())
}

#[test]
fn where_floating_ips_lead_is_shown_and_whether_the_kernel_has_them() -> Result<()> {
    let mut routed = Routed::running_with(|routed| {
        routed.topology.add_floating_ip(&routed.external, 160, Some(&routed.ports[0]));
        routed.topology.add_floating_ip(&routed.external, 161, None);
        routed.topology.floating_ips[1].port_forwardings = vec![overlane_tests::lab::PortForwarding {
            protocol: "tcp".to_owned(),
            external_port: 2222,
            internal_port_id: routed.ports[1].id.clone(),
            internal_port: 22,
        }];
        Ok(())
    })?;
    let row = |floating: &str, protocol: Option<&str>, ports: [Option<u16>; 2], fixed: &str, state: &str| {
        let [external_port, internal_port] = ports;
        serde_json::json!({
            "floating_ip_address": floating, "protocol": protocol, "external_port": external_port,
            "fixed_ip_address": fixed, "internal_port": internal_port, "router_id": routed.router.id, "state": state,
        })
    };
    let expected = |state: &str| {
        let forwarded = row("10.0.50.161", Some("tcp"), [Some(2222), Some(22)], routed.ports[1].ipv4(), state);
        vec![row("10.0.50.160", None, [None, None], routed.ports[0].ipv4(), state), forwarded]
    };
    ensure!(routed.node().show("floating-ips")? == expected("active"));
    let table = routed.node().overlane("show floating-ips")?;
    ensure!(
        table.contains("10.0.50.161 tcp 2222") && table.contains(&format!("{}:22", routed.ports[1].ipv4())),
        "{table}"
    );
    // They are the business of the host that the router is on.
    ensure!(routed.lab.host("compute").show("floating-ips")?.is_empty());
    // Nobody puts it back.
    routed.agents.remove(0).stop(nix::sys::signal::Signal::SIGTERM)?;
    routed.in_router("nft flush map inet overlane floating")?;
    ensure!(routed.node().show("floating-ips")? == expected("waiting"));
    Ok(())
}
