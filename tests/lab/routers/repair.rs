//! What somebody takes from a router is put back, and what an agent does to itself a router does not feel.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Agent, Routed, Stream},
    wait::wait_until,
};

fn with_floating_ip() -> Result<Routed> {
    Routed::running_with(|routed| {
        routed.topology.add_floating_ip(&routed.external, 160, Some(&routed.ports[0]));
        Ok(())
    })
}

#[test]
fn a_table_that_is_deleted_or_changed_is_back() -> Result<()> {
    let routed = with_floating_ip()?;
    let table = || routed.in_router("nft list table inet overlane");
    let before = table()?;
    routed.in_router("nft delete table inet overlane")?;
    wait_until("the table is back", || Ok(table()? == before))?;
    routed.in_router("nft flush map inet overlane floating")?;
    wait_until("the map is back", || Ok(table()? == before))?;
    routed.internet.ping("10.0.50.160", 3)?;
    Ok(())
}

#[test]
fn addresses_routes_and_links_that_are_removed_by_hand_are_back() -> Result<()> {
    let routed = with_floating_ip()?;
    let gateway = routed.in_router("ip -br link")?;
    let gateway = gateway.split_whitespace().find(|word| word.starts_with("qg-")).expect("a gateway");
    let gateway = gateway.split('@').next().expect("a name").to_owned();
    let seen = || -> Result<Vec<String>> {
        let mut seen = Vec::new();
        for line in ["ip -br -4 address", "ip route", "ip -6 route show default"] {
            let text = routed.in_router(line)?;
            // Without the numbers of interfaces, and not in an order that depends on them.
            let words: Vec<&str> = text.split_whitespace().map(|word| word.split('@').next().unwrap_or(word)).collect();
            let mut lines = words;
            lines.sort_unstable();
            seen.push(lines.join(" "));
        }
        Ok(seen)
    };
    let before = seen()?;
    for damage in [
        "ip route delete default".to_owned(),
        format!("ip address delete 10.0.50.160/32 dev {gateway}"),
        format!("ip address delete 10.0.50.151/24 dev {gateway}"),
        format!("ip link set {gateway} down"),
        format!("ip link delete {gateway}"),
    ] {
        routed.in_router(&damage)?;
        wait_until(&format!("{damage} is undone"), || Ok(seen()? == before))?;
        routed.wait_for(&routed.internet, "10.0.50.160")?;
    }
    Ok(())
}

#[test]
fn a_namespace_that_is_deleted_is_back() -> Result<()> {
    let routed = with_floating_ip()?;
    routed.node().run(&format!("ip netns delete {}", routed.namespace()))?;
    routed.wait_for(&routed.internet, "10.0.50.160")?;
    routed.wait_for(&routed.machines[0].namespace, routed.ports[1].ipv6())?;
    routed.settle()
}

#[test]
fn an_agent_that_is_killed_stopped_or_replaced_loses_no_packet_of_a_router() -> Result<()> {
    let mut routed = with_floating_ip()?;
    let [first, second] = &routed.machines[..] else { unreachable!("there are two") };
    let streams = [
        Stream::start(routed.folder(), &first.namespace, second.port.ipv4())?,
        Stream::start(routed.folder(), &second.namespace, routed.outside())?,
        Stream::start(routed.folder(), &routed.internet, "10.0.50.160")?,
        Stream::start(routed.folder(), &second.namespace, routed.outside_ipv6())?,
    ];
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        routed.agents.remove(0).stop(signal)?;
        let agent = Agent::start(routed.node())?;
        routed.agents.insert(0, agent);
        routed.settle()?;
    }
    streams.into_iter().try_for_each(Stream::expect_no_loss)
}

#[test]
fn a_namespace_of_somebody_else_is_left_alone_and_named_while_other_routers_work() -> Result<()> {
    let mut routed = Routed::bare()?;
    let other = routed.topology.add_router(2, &["node"]);
    let name = format!("qrouter-{}", other.id);
    routed.node().run(&format!("ip netns add {name}"))?;
    routed.start()?;
    routed.machines[0].wait_for(routed.ports[1].ipv4())?;
    routed.agents[0].wait_for_log(&format!("namespace {name} is there already"))?;
    let verified = routed.node().overlane("verify").expect_err("it is not as it should be");
    ensure!(format!("{verified:#}").contains(&name), "{verified:#}");
    let links = routed.node().run(&format!("nsenter --net=/run/netns/{name} ip -br link"))?;
    ensure!(links.lines().count() == 1, "{links}");
    routed.node().run(&format!("ip netns delete {name}"))?;
    routed.settle()
}
