//! What the agent does as its topology changes, as it stops, and what its tools say.

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use overlane_tests::{
    lab::{Lanes, Pair, UPLINK, nothing_to_do},
    wait::wait_until,
};

#[test]
fn a_stopped_agent_leaves_forwarding_and_the_tools_untouched() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    for agent in pair.agents.drain(..) {
        let log = agent.log()?;
        let status = agent.stop(Signal::SIGTERM)?;
        ensure!(status.success(), "{status}; {log}");
    }
    let before = pair.host("left").counted("from_port", "tap", "encapsulated")?;
    pair.ping_all(20)?;
    let carried = pair.host("left").counted("from_port", "tap", "encapsulated")? - before;
    ensure!(carried >= 80, "the fast lane carried {carried}");
    ensure!(pair.host("left").show("ports")?[0]["state"] == "active");
    ensure!(pair.host("left").show("agent")?[0]["state"] == "absent");
    Ok(())
}

#[test]
fn an_agent_that_does_not_answer_is_shown_as_silent() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let pid = pair.agents[0].pid();
    let agent = &pair.host("left").show("agent")?[0];
    ensure!(agent["state"] == "running" && agent["pid"] == pid && agent["fast_path"] == "on", "{agent}");
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGSTOP)?;
    let agent = &pair.host("left").show("agent")?[0];
    ensure!(agent["state"] == "silent" && agent["pid"] == pid, "{agent}");
    Ok(())
}

#[test]
fn an_edit_of_the_topology_takes_effect_at_once() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let port = pair.topology.add_port(&pair.network, "right", 5);
    let machine = pair.host("right").boot(pair.lab.world(), &port)?;
    pair.topology.write(&pair.topology_file)?;
    machine.wait_for(pair.ports[0].ipv4())?;
    machine.wait_for(pair.ports[0].ipv6())
}

#[test]
fn a_port_that_leaves_the_topology_leaves_every_map_and_table() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let gone = pair.topology.ports.pop().context("the right port")?;
    pair.topology.write(&pair.topology_file)?;
    wait_until("the left host forgets the right port", || {
        let host = pair.host("left");
        let maps = host.overlane("show fdb")? + &host.overlane("show neighbors")?;
        // What the bridge learns from the machine, which goes on sending, is its own business.
        let is_static = |line: &&str| line.contains("static") || line.contains("permanent");
        let tables = host.run("bridge fdb")?.lines().filter(is_static).collect::<String>();
        Ok(!(maps + &tables).contains(&gone.mac_address))
    })?;
    wait_until("only the uplink of the right host has a program", || {
        let counters = pair.host("right").show("counters")?;
        Ok(counters.iter().all(|row| row["interface"] == UPLINK))
    })?;
    nothing_to_do(pair.host("left"))?;
    nothing_to_do(pair.host("right"))
}

#[test]
fn a_broken_edit_is_refused_with_file_and_line_while_the_last_good_state_stays() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let good = std::fs::read_to_string(&pair.topology_file)?;
    let file = pair.topology_file.display().to_string();
    let line = good.lines().count() + 1;
    std::fs::write(&pair.topology_file, format!("{good}[[ports]]\nid = \"not a uuid\"\n"))?;
    pair.agents[0].wait_for_log(&format!("{file}:{}: id \"not a uuid\"", line + 1))?;
    let refusal = "topology not accepted: the last good one stays in force";
    pair.agents[0].wait_for_log(refusal)?;
    pair.ping_all(5)?;
    ensure!(pair.agents[0].log()?.matches(refusal).count() == 1, "one edit is complained about once");
    ensure!(pair.host("left").overlane("config check").is_err());
    // Mended, with something new.
    let port = pair.topology.add_port(&pair.network, "left", 6);
    pair.topology.write(&pair.topology_file)?;
    let machine = pair.host("left").boot(pair.lab.world(), &port)?;
    machine.wait_for(pair.ports[1].ipv4())
}

#[test]
fn the_plan_of_a_bare_host_says_what_would_be_done_and_does_nothing() -> Result<()> {
    let pair = Pair::bare()?;
    let host = pair.host("left");
    host.configure(&pair.topology_file, Lanes::Both)?;
    let before = host.run("ip -o link")?;
    let plan = host.overlane("plan")?;
    let bridge = pair.network.bridge();
    for step in [format!("create bridge {bridge}"), "create vxlan device vxlan-10".to_owned()] {
        ensure!(plan.contains(&step), "{plan}");
    }
    ensure!(host.run("ip -o link")? == before, "something was done");
    ensure!(!host.bpffs().exists(), "something was pinned");
    Ok(())
}

#[test]
fn a_drifted_host_is_put_right() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let host = pair.host("left");
    host.run("bridge fdb del 00:00:00:00:00:00 dev vxlan-10")?;
    host.run(&format!("ip link set {} nomaster", pair.ports[0].tap()))?;
    host.run("ip link set vxlan-10 down")?;
    nothing_to_do(host)?;
    pair.ping_all(5)
}

#[test]
fn a_deleted_vxlan_device_comes_back() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    pair.host("left").run("ip link delete vxlan-10")?;
    nothing_to_do(pair.host("left"))?;
    pair.ping_all(5)?;
    // The pins of its dead links are gone, too.
    let pins = std::fs::read_dir(pair.host("left").pins().join("links"))?.count();
    ensure!(pins == 4, "{pins} pins of from_port, to_port, from_uplink and from_overlay");
    Ok(())
}

#[test]
fn a_machine_that_is_started_anew_is_connected_anew() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let host = pair.lab.host("left");
    for _ in 0..3 {
        host.run(&format!("ip link delete {}", pair.ports[0].tap()))?;
        pair.machines[0].power_on(host)?;
        pair.machines[0].wait_for(pair.ports[1].ipv4())?;
    }
    nothing_to_do(host)?;
    ensure!(host.show("ports")?[0]["state"] == "active");
    pair.agents.clear();
    Ok(())
}

#[test]
fn bpftool_shows_the_maps_with_their_field_names() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let host = pair.host("left");
    let pins = host.pins();
    let fields = [
        ("fdb", "\"mac\""),
        ("ports", "\"vni\""),
        ("networks", "\"index\""),
        ("vteps", "\"ifindex\""),
        ("neighbors", "\"address\""),
        ("slot_counters", "\"packets\""),
        ("meta", "\"abi_version\""),
    ];
    for (map, field) in fields {
        let dump = host.run(&format!("bpftool map dump pinned {}", pins.join(map).display()))?;
        ensure!(dump.contains(field), "{map}: {dump}");
    }
    Ok(())
}

#[test]
fn every_packet_that_a_program_saw_has_one_outcome() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    pair.ping_all(20)?;
    for name in ["left", "right"] {
        let rows = pair.host(name).show("counters")?;
        ensure!(rows.len() == 4, "{rows:?}");
        for row in rows {
            let outcomes: u64 =
                row["outcomes"].as_object().context("outcomes")?.values().filter_map(|n| n.as_u64()).sum();
            ensure!(row["packets"].as_u64() == Some(outcomes), "{row}");
        }
    }
    Ok(())
}

#[test]
fn what_is_shown_names_ports_networks_and_hosts() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let host = pair.host("left");
    let tables =
        ["ports", "networks", "fdb", "neighbors", "vteps"].map(|subject| host.overlane(&format!("show {subject}")));
    let text = tables.into_iter().collect::<Result<Vec<String>>>()?.concat();
    let [left, right] = &pair.ports;
    for expected in [&left.tap(), &left.id, &right.mac_address, "net10", "10.10.10.12", "vxlan-10", "resolved"] {
        ensure!(text.contains(expected), "{expected} is not in\n{text}");
    }
    Ok(())
}
