//! Somebody breaks what was in place: it is repaired by itself, and meanwhile packets are carried by the lane that is left.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use overlane_tests::{
    lab::{Lanes, Pair, Stream, UPLINK, nothing_to_do},
    wait::wait_at_most,
};

/// A second by right (and a third of one where nothing else runs), more on a machine that does other things meanwhile; far from the
/// thirty of the safety net, so that it is events that are acted on.
const SOON: Duration = Duration::from_secs(15);
/// More than two rounds of the safety net.
const BY_THE_SAFETY_NET: Duration = Duration::from_secs(70);

/// Breaks something on the left host under two streams of pings, waits until it is as before, and expects no loss, a line in the
/// log, and a host that has come to rest.
fn expect_repair(limit: Duration, log: &str, damage: impl Fn(&Pair) -> Result<()>) -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let before = fingerprint(&pair)?;
    let streams = [
        Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?,
        Stream::start(pair.folder(), &pair.right().namespace, pair.ports[0].ipv6())?,
    ];
    damage(&pair)?;
    wait_at_most(limit, "what was broken is as before", || {
        let now = fingerprint(&pair)?;
        ensure!(now == before, "before:\n{before}\nnow:\n{now}");
        Ok(Some(()))
    })?;
    pair.agents[0].wait_for_log(log)?;
    nothing_to_do(pair.host("left"))?;
    for stream in streams {
        stream.expect_no_loss()?;
    }
    pair.ping_all(5)
}

/// What makes the left host work: devices and where they belong, static entries, pins and attachments. Without interface indices,
/// which are others once a device is made anew.
fn fingerprint(pair: &Pair) -> Result<String> {
    let host = pair.host("left");
    let mut lines = Vec::new();
    for line in host.run("ip -o link show up")?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words.get(1).context("a name")?.split('@').next().context("a name")?.trim_end_matches(':');
        let master = words.iter().position(|word| *word == "master").and_then(|index| words.get(index + 1));
        lines.push(format!("{name} in {}", master.unwrap_or(&"nothing")));
        let attached = host.attached(name)?;
        lines.push(format!("{name} has {}", attached.join(" ")));
    }
    lines.extend(
        host.run("bridge fdb")?
            .lines()
            .filter(|line| line.contains("static") || line.contains("dst"))
            .map(str::to_owned),
    );
    for folder in [host.pins(), host.pins().join("links")] {
        lines.push(format!("{} pins in {}", fs::read_dir(&folder)?.count(), folder.display()));
    }
    lines.sort();
    Ok(lines.join("\n"))
}

/// A command line on the left host; `TAP`, `BRIDGE`, `PINS` and `FROM_PORT` stand for what they say.
fn run(pair: &Pair, line: &str) -> Result<()> {
    let (host, tap) = (pair.host("left"), pair.ports[0].tap());
    let index = host.run(&format!("ip -o link show {tap}"))?.split(':').next().context("an index")?.to_owned();
    let pins = host.pins().display().to_string();
    let line = line
        .replace("TAP", &tap)
        .replace("BRIDGE", &pair.network.bridge())
        .replace("FROM_PORT", &format!("PINS/links/from_port-{index}"))
        .replace("PINS", &pins);
    host.run(&line).map(drop)
}

const REPAIRED: &str = "something else had changed this host; repaired, first: ";

#[test]
fn a_deleted_bridge_is_made_anew_and_nothing_is_lost() -> Result<()> {
    expect_repair(SOON, &format!("{REPAIRED}create bridge brq"), |pair| run(pair, "ip link delete BRIDGE"))
}

#[test]
fn a_deleted_vxlan_device_is_made_anew_and_nothing_is_lost() -> Result<()> {
    expect_repair(SOON, &format!("{REPAIRED}create vxlan device vxlan-10"), |pair| run(pair, "ip link delete vxlan-10"))
}

#[test]
fn deleted_entries_of_both_forwarding_databases_come_back_and_nothing_is_lost() -> Result<()> {
    expect_repair(SOON, &format!("{REPAIRED}add FDB entry"), |pair| {
        let remote = &pair.ports[1].mac_address;
        run(pair, &format!("bridge fdb del {remote} dev vxlan-10 dst 10.10.10.12"))?;
        run(pair, "bridge fdb del 00:00:00:00:00:00 dev vxlan-10")?;
        run(pair, &format!("bridge fdb del {} dev TAP master", pair.ports[0].mac_address))
    })
}

#[test]
fn a_tap_that_is_taken_out_of_its_bridge_is_put_back_and_nothing_is_lost() -> Result<()> {
    expect_repair(SOON, &format!("{REPAIRED}add tap"), |pair| run(pair, "ip link set TAP nomaster"))
}

#[test]
fn queueing_disciplines_of_others_come_and_go_beside_the_programs() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let before = fingerprint(&pair)?;
    // The kernel stops the device for a moment each time, and drops what it is given meanwhile: no stream goes without a loss.
    for line in [
        "tc qdisc add dev TAP clsact",
        "tc qdisc replace dev TAP root pfifo limit 1000",
        "tc qdisc delete dev TAP clsact",
        "tc qdisc add dev TAP ingress",
        "tc qdisc delete dev TAP root",
        "tc qdisc delete dev TAP ingress",
    ] {
        run(&pair, line)?;
        let carried = || pair.host("left").counted("from_port", "tap", "encapsulated");
        let counted = carried()?;
        pair.ping_all(5)?;
        ensure!(carried()? >= counted + 20, "after {line} the fast lane does not carry what it should");
    }
    ensure!(fingerprint(&pair)? == before);
    Ok(())
}

#[test]
fn a_pin_of_an_attachment_that_is_removed_is_made_anew_and_nothing_is_lost() -> Result<()> {
    expect_repair(SOON, &format!("{REPAIRED}attach from_port"), |pair| run(pair, "rm FROM_PORT"))
}

#[test]
fn a_pin_of_a_map_that_is_removed_is_put_back_and_nothing_is_lost() -> Result<()> {
    expect_repair(SOON, "somebody has removed the pin of a map: pinned again", |pair| {
        run(pair, "rm PINS/fdb PINS/meta")
    })
}

#[test]
fn the_whole_pin_directory_is_made_anew_and_nothing_is_lost() -> Result<()> {
    // Twice: the new folder is watched as the old one was.
    expect_repair(SOON, "somebody has removed the pin of a map: pinned again", |pair| {
        let before = fingerprint(pair)?;
        behind_its_back(pair, || run(pair, "rm -r PINS"))?;
        wait_at_most(SOON, "the pins are back", || Ok((fingerprint(pair)? == before).then_some(())))?;
        behind_its_back(pair, || run(pair, "rm -r PINS"))
    })
}

/// Does damage while the left agent stands still: it would mend one half before the other is broken.
fn behind_its_back(pair: &Pair, damage: impl FnOnce() -> Result<()>) -> Result<()> {
    let agent = Pid::from_raw(pair.agents[0].pid().try_into().context("a process id")?);
    kill(agent, Signal::SIGSTOP).context("stopping the agent")?;
    damage()?;
    kill(agent, Signal::SIGCONT).context("continuing the agent")
}

#[test]
fn a_program_that_is_detached_by_force_is_attached_again_and_nothing_is_lost() -> Result<()> {
    // Nobody is told of this: it is found by the safety net, and the kernel lane carries everything until then.
    let log = "somebody has detached a program, or its interface is gone";
    expect_repair(BY_THE_SAFETY_NET, log, |pair| {
        run(pair, "bpftool link detach pinned FROM_PORT")?;
        ensure!(pair.host("left").attached(&pair.ports[0].tap())? == ["to_port"]);
        Ok(())
    })
}

#[test]
fn more_news_than_the_agent_can_hear_make_it_look_at_everything() -> Result<()> {
    expect_repair(SOON, "the kernel had more to tell than there was room for", |pair| {
        behind_its_back(pair, || {
            run(pair, "ip link set TAP nomaster")?;
            // Each line makes a message of more than a kilobyte, and the agent's socket holds 16 megabytes.
            let batch = pair.folder().join("batch");
            let lines = (0..20_000).map(|number| format!("link set {UPLINK} alias n{number}\n"));
            fs::write(&batch, lines.collect::<String>())?;
            run(pair, &format!("ip -batch {}", batch.display()))
        })
    })
}
