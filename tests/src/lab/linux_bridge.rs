//! What the Linux bridge agent makes of security groups: iptables, ip6tables, ipset and ebtables, chain by chain as it writes
//! them (Neutron's `iptables_firewall.py`, `arp_protect.py`), from the same topology that Overlane's agent reads.
//!
//! Benches measure against it, and a test asks it about the same packets as our reference.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, File},
    path::Path,
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use overlane_core::{
    model::Mac,
    security::{Direction, Ethertype, Filter, Groups, PortRange, Protocol, Remote, Rule, Source, Traffic},
    topology,
};

use super::Namespace;

/// The network interface of a port, to be filtered.
#[derive(Clone, Copy, Debug)]
pub struct FilteredTap<'a> {
    /// Its name.
    pub tap: &'a str,
    /// The bridge that it is in.
    pub bridge: &'a str,
    /// The port's MAC address.
    pub mac: Mac,
    /// What the port is held to.
    pub filter: &'a Filter,
    /// The connection tracking zone of its network.
    pub zone: u16,
}

/// The first zone that the agent gives away.
pub const FIRST_ZONE: u16 = 4097;

/// Filters every port of a topology's host as the Linux bridge agent does, and has its kernel pass bridged packets to
/// iptables.
///
/// # Errors
/// When the topology is wrong, or a program fails.
pub fn filter(namespace: &Namespace, folder: &Path, file: &Path, host: &str) -> Result<()> {
    let text = fs::read_to_string(file).context("reading a topology")?;
    let topology = topology::Topology::parse(file, &text).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let desired = topology.desired_for(host);
    let networks = desired.networks.iter().zip(FIRST_ZONE..);
    let ports: Vec<_> = networks
        .flat_map(|((id, network), zone)| {
            let ports = network.local_ports.iter();
            ports.map(move |(port_id, port)| (port_id.tap_name(), id.bridge_name(), port, zone))
        })
        .collect();
    let mut taps = Vec::new();
    for (tap, bridge, port, zone) in &ports {
        taps.extend(port.security.filter().map(|filter| FilteredTap {
            tap,
            bridge,
            mac: port.mac,
            filter,
            zone: *zone,
        }));
    }
    for family in ["iptables", "ip6tables"] {
        namespace.set_parameter(&format!("net/bridge/bridge-nf-call-{family}"), "1")?;
    }
    install(namespace, folder, &taps, &desired.rulebook.groups)
}

/// Replaces all tables of a namespace by what these taps need.
///
/// # Errors
/// When a program fails, with what it says.
pub fn install(namespace: &Namespace, folder: &Path, taps: &[FilteredTap], groups: &Groups) -> Result<()> {
    // The rules hold on to the sets that they name.
    for program in ["iptables-restore", "ip6tables-restore"] {
        feed(namespace, folder, program, "*filter\nCOMMIT\n")?;
    }
    feed(namespace, folder, "ipset restore", &sets(groups))?;
    feed(namespace, folder, "iptables-restore", &tables(taps, groups, Ethertype::IPv4))?;
    feed(namespace, folder, "ip6tables-restore", &tables(taps, groups, Ethertype::IPv6))?;
    feed(namespace, folder, "ebtables-restore", &frames(taps))
}

fn feed(namespace: &Namespace, folder: &Path, line: &str, input: &str) -> Result<()> {
    let file = folder.join("rules");
    fs::write(&file, input).context("writing rules")?;
    let mut words = line.split(' ');
    let mut command = namespace.command(words.next().context("a program")?);
    command.args(words).stdin(Stdio::from(File::open(&file).context("opening rules")?));
    let output = command.output().with_context(|| format!("running {line}"))?;
    ensure!(output.status.success(), "{line}: {}\n{input}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The name of the set of a group's members.
fn set_name(ethertype: Ethertype, id: impl std::fmt::Display) -> String {
    const LONGEST: usize = 29;
    format!("N{ethertype}{id}").chars().take(LONGEST).collect()
}

/// The sets that rules name, each with its members.
fn sets(groups: &Groups) -> String {
    let rules = groups.security.values().flat_map(|group| &group.rules);
    let named: BTreeMap<String, (Ethertype, Option<&BTreeSet<IpNet>>)> = rules
        .filter_map(|rule| match rule.remote {
            Remote::Group(id) => {
                let members = groups.security.get(&id).map(|group| &group.members);
                Some((set_name(rule.ethertype, id), (rule.ethertype, members)))
            }
            Remote::AddressGroup(id) => Some((set_name(rule.ethertype, id), (rule.ethertype, groups.address.get(&id)))),
            Remote::Any | Remote::Prefix(_) => None,
        })
        .collect();
    let mut text = String::from("flush\ndestroy\n");
    for (name, (ethertype, members)) in named {
        let family = if ethertype == Ethertype::IPv4 { "inet" } else { "inet6" };
        let _ = writeln!(text, "create {name} hash:net family {family}");
        for net in members.into_iter().flatten().filter(|net| Ethertype::of(net) == ethertype) {
            let _ = writeln!(text, "add {name} {net}");
        }
    }
    text
}

/// The agent's chains of one family, in the order in which it writes them.
fn tables(taps: &[FilteredTap], groups: &Groups, ethertype: Ethertype) -> String {
    let mut raw =
        String::from("*raw\n:neutron-linuxbri-PREROUTING - [0:0]\n-A PREROUTING -j neutron-linuxbri-PREROUTING\n");
    let mut declared = String::from(
        "*filter\n:neutron-filter-top - [0:0]\n:neutron-linuxbri-FORWARD - [0:0]\n:neutron-linuxbri-INPUT - [0:0]\n\
         :neutron-linuxbri-OUTPUT - [0:0]\n:neutron-linuxbri-local - [0:0]\n:neutron-linuxbri-sg-chain - [0:0]\n\
         :neutron-linuxbri-sg-fallback - [0:0]\n",
    );
    let mut rules = String::from(
        "-A INPUT -j neutron-linuxbri-INPUT\n-A FORWARD -j neutron-filter-top\n-A FORWARD -j neutron-linuxbri-FORWARD\n\
         -A OUTPUT -j neutron-filter-top\n-A OUTPUT -j neutron-linuxbri-OUTPUT\n-A neutron-filter-top -j neutron-linuxbri-local\n",
    );
    for FilteredTap { tap, bridge, zone, .. } in taps {
        for place in [
            format!("-m physdev --physdev-in {bridge}"),
            format!("-i {bridge}"),
            format!("-m physdev --physdev-in {tap}"),
        ] {
            let _ = writeln!(raw, "-A neutron-linuxbri-PREROUTING {place} -j CT --zone {zone}");
        }
    }
    for FilteredTap { tap, .. } in taps {
        for (chain, letter) in [(chain('i', tap), "out"), (chain('o', tap), "in")] {
            let _ = writeln!(declared, ":{chain} - [0:0]");
            let place = format!("-m physdev --physdev-{letter} {tap} --physdev-is-bridged");
            let _ = writeln!(rules, "-A neutron-linuxbri-FORWARD {place} -j neutron-linuxbri-sg-chain");
            let _ = writeln!(rules, "-A neutron-linuxbri-sg-chain {place} -j {chain}");
        }
        let to_host = format!("-m physdev --physdev-in {tap} --physdev-is-bridged");
        let _ = writeln!(rules, "-A neutron-linuxbri-INPUT {to_host} -j {}", chain('o', tap));
    }
    rules += "-A neutron-linuxbri-sg-chain -j ACCEPT\n-A neutron-linuxbri-sg-fallback -j DROP\n";
    for tap in taps {
        let own: Vec<&Source> =
            tap.filter.sources.iter().filter(|source| Ethertype::of(&source.net) == ethertype).collect();
        if !own.is_empty() {
            let _ = writeln!(declared, ":{} - [0:0]", chain('s', tap.tap));
        }
        let port = Chains { tap: tap.tap, own, filter: tap.filter, groups, ethertype };
        port.ingress(&mut rules);
        port.egress(&mut rules);
    }
    format!("{raw}COMMIT\n{declared}{rules}COMMIT\n")
}

/// A port's chain: its letter, and what a tap's name has of the port's id, cut where iptables used to.
fn chain(letter: char, tap: &str) -> String {
    format!("neutron-linuxbri-{letter}{}", &tap[3..13])
}

/// What the chains of a port are made from.
struct Chains<'a> {
    tap: &'a str,
    /// Its sources of this family.
    own: Vec<&'a Source>,
    filter: &'a Filter,
    groups: &'a Groups,
    ethertype: Ethertype,
}

impl Chains<'_> {
    /// What the port receives.
    fn ingress(&self, rules: &mut String) {
        let fixed: Vec<&&Source> = self.own.iter().filter(|source| source.is_fixed).collect();
        let mut lines = Vec::new();
        let related = "-m state --state RELATED,ESTABLISHED -j RETURN".to_owned();
        if self.ethertype == Ethertype::IPv4 {
            lines.push(related);
            let own = fixed.iter().map(|source| source.net.to_string()).chain(["255.255.255.255/32".to_owned()]);
            lines.extend(own.map(|net| format!("-d {net} -p udp -m udp --sport 67 --dport 68 -j RETURN")));
        } else {
            lines.extend([130, 135, 136].map(|kind| format!("-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN")));
            lines.push(related);
            if !fixed.is_empty() {
                lines.push("-p ipv6-icmp -m icmp6 --icmpv6-type 134 -j RETURN".to_owned());
            }
            let own = fixed.iter().map(|source| source.net.to_string()).chain(["fe80::/64".to_owned()]);
            lines.extend(own.map(|net| format!("-d {net} -p udp -m udp --sport 547 --dport 546 -j RETURN")));
        }
        self.finish(rules, 'i', lines, Direction::Ingress);
    }

    /// What the port sends.
    fn egress(&self, rules: &mut String) {
        let spoofing = chain('s', self.tap);
        let mut lines = Vec::new();
        let is_v4 = self.ethertype == Ethertype::IPv4;
        if is_v4 {
            lines.push("-s 0.0.0.0/32 -d 255.255.255.255/32 -p udp -m udp --sport 68 --dport 67 -j RETURN".to_owned());
        } else {
            lines
                .extend([131, 135, 143].map(|kind| {
                    format!("-s ::/128 -d ff02::/16 -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN")
                }));
        }
        if !self.own.is_empty() {
            lines.push(format!("-j {spoofing}"));
        }
        if is_v4 {
            lines.push("-p udp -m udp --sport 68 --dport 67 -j RETURN".to_owned());
            lines.push("-p udp -m udp --sport 67 --dport 68 -j DROP".to_owned());
        } else {
            lines.push("-p ipv6-icmp -m icmp6 --icmpv6-type 134 -j DROP".to_owned());
            lines.push("-p ipv6-icmp -j RETURN".to_owned());
            lines.push("-p udp -m udp --sport 546 --dport 547 -j RETURN".to_owned());
            lines.push("-p udp -m udp --sport 547 --dport 546 -j DROP".to_owned());
        }
        lines.push("-m state --state RELATED,ESTABLISHED -j RETURN".to_owned());
        self.finish(rules, 'o', lines, Direction::Egress);
        for source in &self.own {
            let net = if source.net.prefix_len() == 0 { String::new() } else { format!("-s {} ", source.net) };
            let _ = writeln!(rules, "-A {spoofing} {net}-m mac --mac-source {} -j RETURN", source.mac);
        }
        if !self.own.is_empty() {
            let _ = writeln!(rules, "-A {spoofing} -j DROP");
        }
    }

    fn finish(&self, rules: &mut String, letter: char, mut lines: Vec<String>, direction: Direction) {
        let of_port = self.filter.groups.iter().flatten().filter_map(|id| self.groups.security.get(id));
        let of_port = of_port.flat_map(|group| &group.rules);
        let meant = of_port.filter(|rule| rule.direction == direction && rule.ethertype == self.ethertype);
        lines.extend(meant.map(|rule| format!("{}-j RETURN", matches(rule))));
        lines.push("-m state --state INVALID -j DROP".to_owned());
        lines.push("-j neutron-linuxbri-sg-fallback".to_owned());
        let chain = chain(letter, self.tap);
        for line in lines {
            let _ = writeln!(rules, "-A {chain} {line}");
        }
    }
}

/// What a rule matches, each option followed by a space.
fn matches(rule: &Rule) -> String {
    let (side, of_set) = if rule.direction == Direction::Ingress { ("-s", "src") } else { ("-d", "dst") };
    let remote = match rule.remote {
        Remote::Any => String::new(),
        Remote::Prefix(net) => format!("{side} {net} "),
        Remote::Group(id) => format!("-m set --match-set {} {of_set} ", set_name(rule.ethertype, id)),
        Remote::AddressGroup(id) => format!("-m set --match-set {} {of_set} ", set_name(rule.ethertype, id)),
    };
    let traffic = match rule.traffic {
        Traffic::Any => String::new(),
        Traffic::Protocol(protocol) => format!("-p {} ", protocol.number()),
        Traffic::Ports(protocol, range) => ports(protocol, range),
        Traffic::Icmp { kind, code } => {
            let (protocol, module, option) = match rule.ethertype {
                Ethertype::IPv4 => ("icmp", "icmp", "--icmp-type"),
                Ethertype::IPv6 => ("ipv6-icmp", "icmp6", "--icmpv6-type"),
            };
            let code = code.map(|code| format!("/{code}")).unwrap_or_default();
            format!("-p {protocol} -m {module} {option} {kind}{code} ")
        }
    };
    remote + &traffic
}

fn ports(protocol: Protocol, range: PortRange) -> String {
    let (min, max) = (range.min(), range.max());
    if min == max {
        format!("-p {protocol} -m {protocol} --dport {min} ")
    } else {
        format!("-p {protocol} -m multiport --dports {min}:{max} ")
    }
}

/// The tables of ebtables: source MAC address, and sender of ARP.
fn frames(taps: &[FilteredTap]) -> String {
    let mut text = String::from("*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n");
    for FilteredTap { tap, .. } in taps {
        let _ = writeln!(text, ":neutronARP-{tap} DROP\n:neutronMAC-{tap} DROP");
    }
    for FilteredTap { tap, .. } in taps {
        let _ = writeln!(text, "-A PREROUTING -i {tap} -j neutronMAC-{tap}");
        let _ = writeln!(text, "-A PREROUTING -p ARP -i {tap} -j neutronARP-{tap}");
    }
    for FilteredTap { tap, mac, filter, .. } in taps {
        let v4 = || filter.sources.iter().filter(|source| Ethertype::of(&source.net) == Ethertype::IPv4);
        if v4().any(|source| source.net.prefix_len() == 0) {
            let _ = writeln!(text, "-A neutronARP-{tap} -j ACCEPT");
        }
        for source in v4() {
            let _ = writeln!(text, "-A neutronARP-{tap} -p ARP --arp-ip-src {} -j ACCEPT", source.net);
        }
        let mut macs: Vec<Mac> = filter.sources.iter().map(|source| source.mac).chain([*mac]).collect();
        macs.sort_unstable();
        macs.dedup();
        for mac in macs {
            let _ = writeln!(text, "-A neutronMAC-{tap} -i {tap} -s {mac} -j RETURN");
        }
    }
    text + "COMMIT\n"
}
