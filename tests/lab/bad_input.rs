//! Wrong configuration, wrong topology, wrong user: what is said, and the exit status.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use overlane_tests::lab::{Agent, Lanes, Pair, overlane_binary};

const BAD_INPUT: Option<i32> = Some(2);

fn overlane(pair: &Pair, words: &[&str]) -> Result<Output> {
    let host = pair.host("left");
    let mut command = host.namespace.command(overlane_binary());
    command.args(words).arg("--config-file").arg(host.config_file()).output().context("running overlane")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_problem_of_a_topology_is_reported_with_its_line() -> Result<()> {
    let pair = Pair::bare()?;
    pair.host("left").configure(&pair.topology_file, Lanes::Both)?;
    let text = "[[hosts]]\nname = \"left\"\nlocal_ip = \"10.10.10\"\n\n[[networks]]\nid = \"x\"\nnetwork_type = \"vxlan\"\n\
                segmentation_id = 16777216\n\n[[ports]]\nmac_adress = \"fa:16:3e:00:00:01\"\n\n\
                [[networks]]\nid = \"971ffda2-e567-40a0-a2c8-b31a577fd4d3\"\nnetwork_type = \"gre\"\n";
    std::fs::write(&pair.topology_file, text)?;
    for words in [&["config", "check"][..], &["plan"], &["show", "ports"], &["agent"]] {
        let output = overlane(&pair, words)?;
        let errors = stderr(&output);
        ensure!(output.status.code() == BAD_INPUT, "{words:?}: {}: {errors}", output.status);
        let file = pair.topology_file.display();
        for (line, what) in [
            (3, "local_ip \"10.10.10\""),
            (6, "id \"x\""),
            (8, "segmentation_id"),
            (10, "no mac_address"),
            (11, "\"mac_adress\""),
            (15, "network_type \"gre\""),
        ] {
            let found =
                errors.lines().any(|error| error.starts_with(&format!("{file}:{line}: ")) && error.contains(what));
            ensure!(found, "{words:?}: nothing about line {line}, {what}:\n{errors}");
        }
    }
    Ok(())
}

#[test]
fn every_problem_of_a_configuration_is_reported_with_its_line() -> Result<()> {
    let pair = Pair::bare()?;
    let host = pair.host("left");
    std::fs::write(host.config_file(), "[vxlan]\nlocal_ip = here\nttl = 0x\n[overlane]\nfastpath = off\n")?;
    let output = overlane(&pair, &["config", "check"])?;
    let (errors, file) = (stderr(&output), host.config_file());
    ensure!(output.status.code() == BAD_INPUT, "{}", output.status);
    for (line, what) in [(2, "local_ip"), (3, "ttl"), (5, "fastpath")] {
        let found = errors
            .lines()
            .any(|error| error.starts_with(&format!("{}:{line}: ", file.display())) && error.contains(what));
        ensure!(found, "nothing about line {line}, {what}:\n{errors}");
    }
    Ok(())
}

#[test]
fn a_missing_file_is_named() -> Result<()> {
    let pair = Pair::bare()?;
    let output = overlane(&pair, &["show", "fdb"])?;
    ensure!(output.status.code() == BAD_INPUT);
    let expected = format!("{}: no such file", pair.host("left").config_file().display());
    ensure!(stderr(&output).contains(&expected), "{}", stderr(&output));
    Ok(())
}

#[test]
fn a_wrong_command_line_is_explained() -> Result<()> {
    let pair = Pair::bare()?;
    let output = overlane(&pair, &["show", "weather"])?;
    ensure!(output.status.code() == BAD_INPUT);
    ensure!(stderr(&output).contains("[possible values: ports, networks"), "{}", stderr(&output));
    pair.host("left").configure(&pair.topology_file, Lanes::Both)?;
    let Err(error) = pair.host("left").overlane("show networks --port 0a01") else { anyhow::bail!("it was ignored") };
    ensure!(format!("{error:#}").contains("only flows, rules and drops are chosen by port"), "{error:#}");
    Ok(())
}

#[test]
fn a_topology_without_this_host_is_refused() -> Result<()> {
    let mut pair = Pair::bare()?;
    pair.topology.hosts.remove(0);
    pair.topology.ports.remove(0);
    pair.topology.write(&pair.topology_file)?;
    let host = pair.host("left");
    host.configure(&pair.topology_file, Lanes::Both)?;
    let (status, log) = Agent::launch(host)?.wait()?;
    ensure!(status.code() == BAD_INPUT, "{status}");
    ensure!(log.contains("this host, \"left\", is not among the hosts: right"), "{log}");
    Ok(())
}

#[test]
fn an_agent_without_privileges_says_what_it_lacks() -> Result<()> {
    let pair = Pair::bare()?;
    let host = pair.host("left");
    host.configure(&pair.topology_file, Lanes::Both)?;
    let config = host.config_file();
    let agent = format!("{} agent --config-file {}", overlane_binary().display(), config.display());
    let log = pair.lab.world().folder().join("unprivileged.log");
    // Root without capabilities: it may read files, and nothing else.
    let process = host.namespace.start(&format!("setpriv --bounding-set=-all --inh-caps=-all {agent}"), &log)?;
    overlane_tests::wait::wait_until("the agent says what it lacks", || {
        let log = process.output()?;
        ensure!(log.contains("CAP_BPF") && log.contains("CAP_NET_ADMIN"), "{log}");
        Ok(true)
    })?;
    ensure!(!host.run("ip -o link")?.contains("brq"), "something was made");
    Ok(())
}

#[test]
fn what_collides_on_the_host_is_named_and_holds_back_nothing_else() -> Result<()> {
    // Beside the network of the pair: a flat network whose device collides, and a VXLAN network with a port.
    for (setup, reason, is_wrong_anyhow) in [
        ("true", "brq0000000a-00 is for network net10 (0000000a-0000-4000-8000-000000000000)", true),
        ("ip link add tap0b010000-11 type bridge", "tap0b010000-11 is a bridge, not a tap: rename it", false),
        (
            "ip link add brq0000000b-00 type bridge; ip link add theirs type vxlan id 99 dstport 4789; \
             ip link set theirs master brq0000000b-00",
            "brq0000000b-00 carries another network, with VNI 99 by theirs: take that out with",
            false,
        ),
    ] {
        let mut pair = Pair::bare()?;
        let other = pair.topology.add_network(11);
        let port = pair.topology.add_port(&other, "left", 1);
        let host = pair.lab.host("left");
        if is_wrong_anyhow {
            let flat = pair.topology.add_flat_network(20, "provider");
            pair.topology.add_port(&flat, "left", 1);
            host.add_config(&format!("[linux_bridge]\nbridge_mappings = provider:{}\n", pair.network.bridge()));
        }
        pair.topology.write(&pair.topology_file)?;
        for line in setup.split("; ") {
            host.run(line)?;
        }
        pair.start(Lanes::Both)?;
        pair.agents[0].wait_for_log(reason)?;
        pair.ping_all(5)?;
        let rows = pair.host("left").show("ports")?;
        let blocked: Vec<_> = rows.iter().filter(|row| row["state"] == "blocked").collect();
        let says_why =
            blocked[..].first().and_then(|row| row["reason"].as_str()).is_some_and(|why| why.contains(reason));
        ensure!(blocked.len() == 1 && says_why, "{rows:?}");
        ensure!(is_wrong_anyhow || blocked[0]["port_id"] == port.id.as_str(), "{rows:?}");
        // What no look at the host can mend is an error of the configuration as well.
        ensure!(pair.host("left").overlane("config check").is_err() == is_wrong_anyhow);
    }
    Ok(())
}
