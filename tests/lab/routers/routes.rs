//! Routes of routers, and who is translated.

use anyhow::{Result, ensure};
use overlane_tests::lab::{Port, Route, Routed, Subnet};

use super::{call, seen_outside};

#[test]
fn extra_routes_lead_to_machines_that_route_and_several_to_one_destination_take_turns() -> Result<()> {
    let routed = Routed::running_with(|routed| {
        let route = |destination: &str, nexthop: &str| Route {
            destination: destination.to_owned(),
            nexthop: nexthop.to_owned(),
        };
        routed.topology.routers[0].routes = vec![
            route("192.0.2.0/24", "10.0.20.22"),
            route("198.51.100.0/24", "10.0.10.21"),
            route("198.51.100.0/24", "10.0.20.22"),
            route("2001:db8::/32", "fd00:20::22"),
        ];
        for port in &mut routed.topology.ports {
            if port.id == routed.ports[1].id {
                port.port_security_enabled = Some(false);
            }
        }
        Ok(())
    })?;
    let [first, second] = &routed.machines[..] else { unreachable!("there are two") };
    for address in ["192.0.2.1/32", "2001:db8::1/128"] {
        second.run(&format!("ip address add {address} dev lo"))?;
    }
    // The router may yet have to find the machine that the routes lead to.
    for address in ["192.0.2.1", "2001:db8::1"] {
        first.wait_for(address)?;
        first.ping(address, 5)?;
    }
    let several = routed.in_router("ip route show 198.51.100.0/24")?;
    ensure!(several.matches("nexthop via").count() == 2, "{several}");
    Ok(())
}

#[test]
fn subnets_of_the_external_network_are_on_link_by_the_gateway_and_by_an_interface_of_their_own() -> Result<()> {
    let routed = Routed::running_with(|routed| {
        let external = routed.topology.networks.iter_mut().find(|network| network.id == routed.external.id);
        external.expect("there is one").subnets.extend(["10.0.51.0/24", "10.0.52.0/24"].map(Subnet::of));
        routed.topology.ports.push(Port {
            id: "51510000-1111-4000-8000-000000000000".to_owned(),
            network_id: routed.external.id.clone(),
            host: "node".to_owned(),
            mac_address: "fa:16:3e:00:51:51".to_owned(),
            fixed_ips: vec!["10.0.51.1".to_owned()],
            device_owner: "network:router_interface".to_owned(),
            device_id: routed.router.id.clone(),
            ..Port::default()
        });
        Ok(())
    })?;
    let both = routed.in_router("ip route show 10.0.51.0/24")?;
    ensure!(both.lines().count() == 2 && both.contains("dev qg-") && both.contains("dev qr-51510000-11"), "{both}");
    let only = routed.in_router("ip route show 10.0.52.0/24")?;
    ensure!(only.lines().count() == 1 && only.contains("dev qg-"), "{only}");
    routed.internet.run("ip address add 10.0.52.9/24 dev eth0")?;
    routed.machines[0].ping("10.0.52.9", 3)
}

#[test]
fn without_snat_machines_are_seen_by_their_own_addresses_and_what_was_translated_is_cut() -> Result<()> {
    let mut routed = Routed::running()?;
    routed.internet.run("ip route add 10.0.0.0/19 via 10.0.50.151")?;
    let outside = format!("{}:80", routed.outside()).parse()?;
    let mut translated =
        overlane_tests::lab::Connection::translated(&routed.machines[0].namespace, &routed.internet, outside, outside)?
            .expect("the outside answers");
    ensure!(translated.is_alive()?);
    routed.change(|topology| topology.routers[0].enable_snat = Some(false))?;
    ensure!(!matches!(translated.is_alive(), Ok(true)), "what was translated goes on");
    ensure!(seen_outside(&routed, &routed.machines[0])? == routed.ports[0].ipv4());
    let inwards = call(&routed.internet, &routed.machines[0], &format!("{}:22", routed.ports[0].ipv4()), 22)?;
    ensure!(inwards.is_some());
    Ok(())
}

#[test]
fn a_router_that_is_switched_off_is_gone_and_comes_back() -> Result<()> {
    let mut routed = Routed::running()?;
    routed.change(|topology| topology.routers[0].admin_state_up = Some(false))?;
    ensure!(routed.in_router("true").is_err(), "the namespace is still there");
    let taps = routed.node().run("ip -br link")?;
    ensure!(!taps.contains("tap"), "{taps}");
    routed.change(|topology| topology.routers[0].admin_state_up = None)?;
    routed.machines[0].wait_for(routed.ports[1].ipv4())?;
    routed.machines[1].wait_for(routed.outside())
}
