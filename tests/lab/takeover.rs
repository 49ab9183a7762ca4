//! Taking a host over that the Linux bridge agent has filtered: its rules go when ours are in force, and nobody else's do.

use std::{fs, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Host, Lanes, Pair, QosRule, Rule, Stream},
    wait::wait_until,
};

/// The agent's rules for a tap, shortened, among those of an administrator and for the tap of another host's agent.
fn iptables_rules(tap: &str) -> String {
    let chain = |kind: &str| format!("neutron-linuxbri-{kind}{}", &tap[3..13]);
    let (ingress, egress) = (chain("i"), chain("o"));
    format!(
        "*filter\n:mine - [0:0]\n:neutron-linuxbri-FORWARD - [0:0]\n:neutron-linuxbri-sg-chain - [0:0]\n\
         :neutron-linuxbri-sg-fallback - [0:0]\n:{ingress} - [0:0]\n:{egress} - [0:0]\n:neutron-linuxbri-iffffffff-f - [0:0]\n\
         -A INPUT -i lo -j mine\n-A FORWARD -j neutron-linuxbri-FORWARD\n\
         -A neutron-linuxbri-FORWARD -m physdev --physdev-out {tap} --physdev-is-bridged -j neutron-linuxbri-sg-chain\n\
         -A neutron-linuxbri-FORWARD -m physdev --physdev-in {tap} --physdev-is-bridged -m comment --comment \"Direct traffic from the VM interface to the security group chain.\" -j neutron-linuxbri-sg-chain\n\
         -A neutron-linuxbri-FORWARD -m physdev --physdev-out tapffffffff-ff --physdev-is-bridged -j neutron-linuxbri-iffffffff-f\n\
         -A neutron-linuxbri-sg-chain -m physdev --physdev-out {tap} --physdev-is-bridged -j {ingress}\n\
         -A neutron-linuxbri-sg-chain -m physdev --physdev-in {tap} --physdev-is-bridged -j {egress}\n\
         -A {ingress} -m state --state RELATED,ESTABLISHED -j RETURN\n\
         -A {ingress} -m set --match-set NIPv4641c1bc0-356c-4f3c-b3ce- src -j RETURN\n-A {ingress} -j neutron-linuxbri-sg-fallback\n\
         -A {egress} -m mac --mac-source fa:16:3e:00:0a:01 -j RETURN\n\
         -A neutron-linuxbri-sg-fallback -j ACCEPT\nCOMMIT\n"
    )
}

fn feed(host: &Host, line: &str, input: &str) -> Result<()> {
    let file = host.folder().join("input");
    fs::write(&file, input).context("writing rules")?;
    let mut words = line.split(' ');
    let mut command = host.namespace.command(words.next().context("a program")?);
    command.args(words).stdin(Stdio::from(fs::File::open(&file).context("opening rules")?));
    let output = command.output().with_context(|| format!("running {line}"))?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn the_old_agents_rules_go_once_ours_are_in_force_and_nobody_elses_do() -> Result<()> {
    let mut pair = Pair::bare()?;
    let rules = [Rule::both("egress", None), Rule::both("ingress", None)].concat();
    pair.topology.add_group("default", rules);
    pair.topology.write(&pair.topology_file)?;
    pair.boot()?;
    for index in 0..2 {
        pair.set_up_like_the_linux_bridge_agent(index)?;
    }
    let (host, tap) = (pair.lab.host("left"), pair.ports[0].tap());
    host.run("ipset create NIPv4641c1bc0-356c-4f3c-b3ce- hash:net")?;
    host.run("ipset create mine hash:net")?;
    feed(host, "iptables-restore", &iptables_rules(&tap))?;
    for name in [tap.as_str(), "tapffffffff-ff"] {
        host.run(&format!("ebtables -t nat -N neutronARP-{name} -P DROP"))?;
        host.run(&format!("ebtables -t nat -A neutronARP-{name} -p ARP --arp-ip-src 10.0.10.1 -j ACCEPT"))?;
        host.run(&format!("ebtables -t nat -A PREROUTING -p ARP -i {name} -j neutronARP-{name}"))?;
    }
    pair.left().wait_for(pair.ports[1].ipv4())?;
    let stream = Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?;
    for (name, _) in overlane_tests::lab::HOSTS {
        let agent = pair.lab.host(name).start_agent(&pair.topology_file, Lanes::Both)?;
        pair.agents.push(agent);
    }
    let everything = || -> Result<String> {
        let lists = ["iptables-save", "ebtables-save", "ipset list -terse"].map(|line| host.run(line));
        Ok(lists.into_iter().collect::<Result<Vec<String>>>()?.concat())
    };
    wait_until("the old agent's rules are gone", || Ok(!everything()?.contains(&tap[3..13])))?;
    stream.expect_no_loss()?;
    let left = everything()?;
    for stays in ["-j mine", "Name: mine", "neutron-linuxbri-iffffffff-f", "neutronARP-tapffffffff-ff"] {
        ensure!(left.contains(stays), "{stays} is gone:\n{left}");
    }
    ensure!(!left.contains("NIPv4641c1bc0"), "the set of a group is left:\n{left}");
    Ok(())
}

/// What the agent makes for a policy of a port: a limit of what its machine receives and one of what it sends, and a mark. The kernel
/// of the test may have no police action; what the filter would do does not matter here.
fn make_policy(host: &Host, tap: &str) -> Result<()> {
    host.run(&format!("tc qdisc replace dev {tap} root tbf rate 1mbit burst 10kb latency 50ms"))?;
    limit_what_is_sent(host, tap, 49)?;
    let (top, chain) = ("neutron-linuxbri-POSTROUTING", format!("neutron-linuxbri-qos-o{}", &tap[3..9]));
    feed(
        host,
        "iptables-restore --noflush",
        &format!(
            "*mangle\n:{top} - [0:0]\n:{chain} - [0:0]\n-A POSTROUTING -j {top}\n\
             -A {top} -m physdev --physdev-in {tap} --physdev-is-bridged -j {chain}\n\
             -A {chain} -j DSCP --set-dscp 26\nCOMMIT\n"
        ),
    )
}

fn limit_what_is_sent(host: &Host, tap: &str, preference: u8) -> Result<()> {
    host.run(&format!("tc qdisc add dev {tap} ingress"))?;
    let filter = format!("tc filter add dev {tap} parent ffff: protocol all pref {preference} u32 match u32 0 0");
    host.run(&filter).map(drop)
}

#[test]
fn the_old_agents_limits_and_marks_go_and_nobody_elses_do() -> Result<()> {
    let mut pair = Pair::bare()?;
    // Without security groups: rules of that kind would stay.
    pair.topology.set_qos(&pair.ports[1].id, [QosRule::limit("ingress", 50_000)]);
    pair.topology.write(&pair.topology_file)?;
    pair.boot()?;
    let taps = [pair.ports[0].tap(), pair.ports[1].tap()];
    for ((name, _), tap) in overlane_tests::lab::HOSTS.iter().zip(&taps) {
        make_policy(pair.lab.host(name), tap)?;
    }
    // Somebody else's, at a device that is no port's.
    pair.host("left").run("ip link add mine type veth peer name yours")?;
    limit_what_is_sent(pair.host("left"), "mine", 49)?;
    for (name, _) in overlane_tests::lab::HOSTS {
        let agent = pair.lab.host(name).start_agent(&pair.topology_file, Lanes::Both)?;
        pair.agents.push(agent);
    }
    pair.finish()?;
    let host = pair.host("left");
    let of = |device: &str| host.run(&format!("tc qdisc show dev {device}"));
    let is_gone = || Ok(["tbf", "ingress"].iter().all(|kind| of(&taps[0]).is_ok_and(|list| !list.contains(kind))));
    wait_until("the limits of a port without a policy are gone", is_gone)?;
    ensure!(of("mine")?.contains("ingress"), "{}", of("mine")?);
    wait_until("the marks are gone", || Ok(!host.run("iptables-save -t mangle")?.contains("neutron")))?;
    let right = pair.host("right").run(&format!("tc qdisc show dev {}", taps[1]))?;
    ensure!(right.contains("rate 50Mbit"), "{right}");
    Ok(())
}
