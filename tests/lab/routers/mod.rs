//! Routers that Overlane makes: real packets through their namespaces.

mod floating_ips;
mod ipv6;
mod metadata;
mod refusals;
mod repair;
mod replicated;
mod routes;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use overlane_tests::lab::{Connection, Machine, Namespace, Routed};

/// Calls `outer` from a namespace; a machine listens at its address and the port `inner`.
fn call(from: &Namespace, machine: &Machine, outer: &str, inner: u16) -> Result<Option<Connection>> {
    let outer: SocketAddr = outer.parse().context("an address with a port")?;
    let inner = SocketAddr::new(machine.port.ipv4().parse::<IpAddr>().context("an address")?, inner);
    Connection::translated(from, &machine.namespace, outer, inner)
}

/// Calls who is outside, and returns who has called as it is seen there.
fn seen_outside(routed: &Routed, machine: &Machine) -> Result<String> {
    let outside: SocketAddr = format!("{}:80", routed.outside()).parse().context("an address")?;
    let connection = Connection::translated(&machine.namespace, &routed.internet, outside, outside)?;
    let mut connection = connection.context("the outside does not answer")?;
    ensure!(connection.is_alive()?, "nothing gets through");
    Ok(connection.caller()?.to_string())
}

#[test]
fn machines_of_two_networks_reach_each_other_and_the_outside_by_their_router() -> Result<()> {
    let routed = Routed::running()?;
    let [first, second] = &routed.machines[..] else { unreachable!("there are two") };
    first.ping(second.port.ipv4(), 20)?;
    second.ping(first.port.ipv6(), 20)?;
    first.ping(routed.outside(), 20)?;
    second.ping(routed.outside_ipv6(), 20)?;
    // Outside they are seen by the gateway's address, inside by their own.
    ensure!(seen_outside(&routed, first)? == routed.gateway());
    let connection = call(&first.namespace, second, &format!("{}:80", second.port.ipv4()), 80)?;
    ensure!(connection.context("no answer")?.caller()?.to_string() == first.port.ipv4());
    Ok(())
}
