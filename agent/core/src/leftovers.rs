//! What the Linux bridge agent leaves in iptables, ip6tables, ebtables, ipset and tc, by the names that it gives (contract §6.2): which
//! of it belongs to ports that are filtered by eBPF now, and the commands that remove that and nothing else.

use std::collections::{BTreeMap, BTreeSet};

/// Begins the name of every chain of the agent's.
const PREFIX: &str = "neutron-linuxbri-";
/// A chain that agents of several kinds share.
const SHARED_TOP: &str = "neutron-filter-top";
/// How much of a device name, from its fourth character on, is in the name of a chain.
const CHAIN_CHARACTERS: usize = 10;
/// Begins the names of the chains that mark what ports send, and how much of a device name, from its fourth character on, follows.
const QOS_PREFIX: &str = "qos-o";
const QOS_CHARACTERS: usize = 6;
/// Where these chains are.
const MARKING_TABLE: &str = "mangle";
/// The preference of the filters that limit what ports send (`neutron/agent/linux/tc_lib.py`).
const LIMIT_PREFERENCE: &str = "49";
/// Begin the names of ebtables chains, in front of the whole device name.
const EBTABLES_PREFIXES: [&str; 2] = ["neutronMAC-", "neutronARP-"];
/// Begin the names of sets of addresses.
const SET_PREFIXES: [&str; 2] = ["NIPv4", "NIPv6"];

/// One table of `iptables-save`.
#[derive(Default)]
struct Table<'a> {
    name: &'a str,
    chains: BTreeSet<&'a str>,
    /// Chain and the rest of the line.
    rules: Vec<(&'a str, &'a str)>,
}

fn tables(save: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table> = Vec::new();
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            tables.push(Table { name, ..Table::default() });
        }
        let Some(table) = tables.last_mut() else { continue };
        if let Some(chain) = line.strip_prefix(':') {
            table.chains.extend(chain.split(' ').next());
        } else if let Some(rule) = line.strip_prefix("-A ") {
            table.rules.push(rule.split_once(' ').unwrap_or((rule, "")));
        }
    }
    tables
}

/// The input of `iptables-restore --noflush` that removes what is left of `taps` from what `iptables-save` prints; `None` when there
/// is nothing.
///
/// Once no chain of any port is left, what all ports have in common goes as well.
pub fn iptables_script(save: &str, taps: &BTreeSet<String>) -> Option<String> {
    let script: String = tables(save).iter().filter_map(|table| table_script(table, taps)).collect();
    (!script.is_empty()).then_some(script)
}

/// As [`iptables_script`], for nothing but what marks packets that ports send.
pub fn marks_script(save: &str, taps: &BTreeSet<String>) -> Option<String> {
    let tables = tables(save);
    let mut marking = tables.iter().filter(|table| table.name == MARKING_TABLE);
    marking.find_map(|table| table_script(table, taps))
}

fn table_script(table: &Table, taps: &BTreeSet<String>) -> Option<String> {
    let mut removal = Removal::of_ports(table, taps);
    if removal.is_empty() {
        return None;
    }
    removal.add_what_ports_share(table);
    Some(removal.script(table))
}

/// What is to be removed from a table.
struct Removal<'a> {
    chains: BTreeSet<&'a str>,
    rules: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Removal<'a> {
    fn of_ports(table: &Table<'a>, taps: &BTreeSet<String>) -> Self {
        let of_ports: BTreeSet<String> = taps.iter().flat_map(|tap| port_chains(tap)).collect();
        let chains = table.chains.iter().copied().filter(|chain| of_ports.contains(*chain)).collect();
        let is_ours = |(chain, rule): &(&str, &str)| chain.starts_with(PREFIX) && names_a_tap(rule, taps);
        let mut removal = Self { chains, rules: table.rules.iter().copied().filter(is_ours).collect() };
        // Two ports whose ids begin alike share a chain.
        let jumps =
            table.rules.iter().filter(|rule| !removal.rules.contains(*rule) && !removal.chains.contains(rule.0));
        let needed: BTreeSet<&str> = jumps.filter_map(|(_, rule)| target(rule)).collect();
        removal.chains.retain(|chain| !needed.contains(chain));
        removal
    }

    fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.rules.is_empty()
    }

    /// Once no port is left that needs it.
    fn add_what_ports_share(&mut self, table: &Table<'a>) {
        let is_left = |chain: &&str| is_port_chain(chain) && !self.chains.contains(*chain);
        let is_zone = |rule: &&(&str, &str)| rule.1.contains("Set zone for") && !self.rules.contains(*rule);
        if table.chains.iter().any(is_left) || table.rules.iter().any(|rule| is_zone(&rule)) {
            return;
        }
        self.chains.extend(table.chains.iter().filter(|chain| chain.starts_with(PREFIX)));
        self.add_jumps(table);
        if table.chains.contains(SHARED_TOP)
            && table.rules.iter().all(|rule| rule.0 != SHARED_TOP || self.rules.contains(rule))
        {
            self.chains.insert(SHARED_TOP);
            self.add_jumps(table);
        }
    }

    /// Adds the rules that jump to the chains.
    fn add_jumps(&mut self, table: &Table<'a>) {
        let jumps = table.rules.iter().filter(|(_, rule)| target(rule).is_some_and(|to| self.chains.contains(to)));
        let jumps: Vec<_> = jumps.copied().collect();
        self.rules.extend(jumps);
    }

    fn script(&self, table: &Table) -> String {
        let mut script = format!("*{}\n", table.name);
        // With --noflush, naming a chain empties it, and the rules in it need no words.
        script.extend(self.chains.iter().map(|chain| format!(":{chain} - [0:0]\n")));
        let elsewhere = self.rules.iter().filter(|(chain, _)| !self.chains.contains(chain));
        script.extend(elsewhere.map(|(chain, rule)| format!("-D {chain} {rule}\n")));
        script.extend(self.chains.iter().map(|chain| format!("-X {chain}\n")));
        script.push_str("COMMIT\n");
        script
    }
}

/// Names of the chains for what a tap's port receives, sends, and may send as, and for how that is marked.
fn port_chains(tap: &str) -> [String; 4] {
    let begin = |characters| tap.get(3..3 + characters).unwrap_or_default();
    let [ingress, egress, source] = ["i", "o", "s"].map(|kind| format!("{PREFIX}{kind}{}", begin(CHAIN_CHARACTERS)));
    [ingress, egress, source, format!("{PREFIX}{QOS_PREFIX}{}", begin(QOS_CHARACTERS))]
}

/// Whether a chain is some port's.
fn is_port_chain(chain: &str) -> bool {
    let Some(name) = chain.strip_prefix(PREFIX) else { return false };
    let is_id = |text: &str| text.len() == CHAIN_CHARACTERS && text.as_bytes().get(8) == Some(&b'-');
    let is_mark = name.strip_prefix(QOS_PREFIX).is_some_and(|id| id.len() == QOS_CHARACTERS);
    is_mark || name.strip_prefix(['i', 'o', 's']).is_some_and(is_id)
}

fn names_a_tap(rule: &str, taps: &BTreeSet<String>) -> bool {
    let words: Vec<&str> = rule.split(' ').collect();
    let is_at = |pair: &[&str]| matches!(pair[0], "--physdev-in" | "--physdev-out") && taps.contains(pair[1]);
    // Rules for a port's conntrack zone name its bridge as well, and the port in a comment: its device name without four
    // characters.
    let is_zone = |tap: &String| rule.contains(&format!("\"Set zone for {}\"", tap.get(4..).unwrap_or(tap)));
    words.windows(2).any(is_at) || taps.iter().any(is_zone)
}

fn target(rule: &str) -> Option<&str> {
    let (_, target) = rule.split_once("-j ")?;
    target.split(' ').next()
}

/// Command lines of `ebtables` that remove what is left of `taps` from what `ebtables-save` prints.
///
/// Chains are emptied before they are deleted: on some kernels `ebtables` cannot delete rules of these by what they say.
pub fn ebtables_commands(save: &str, taps: &BTreeSet<String>) -> Vec<Vec<String>> {
    let ours: BTreeSet<String> =
        taps.iter().flat_map(|tap| EBTABLES_PREFIXES.map(|prefix| format!("{prefix}{tap}"))).collect();
    let mut commands = Vec::new();
    for table in tables(save) {
        let mut command = |words: &[&str]| {
            let words = [&["--concurrent", "-t", table.name], words].concat();
            commands.push(words.into_iter().map(str::to_owned).collect());
        };
        for (chain, rule) in &table.rules {
            if target(rule).is_some_and(|target| ours.contains(target)) {
                let words: Vec<&str> = ["-D", chain].into_iter().chain(rule.split(' ')).collect();
                command(&words);
            }
        }
        for chain in table.chains.iter().filter(|chain| ours.contains(**chain)) {
            command(&["-F", chain]);
            command(&["-X", chain]);
        }
    }
    commands
}

/// Those of `taps` at which somebody looks at what the machine sends, from what `tc qdisc show` prints.
pub fn taps_with_ingress<'a>(list: &'a str, taps: &BTreeSet<String>) -> Vec<&'a str> {
    let devices = list.lines().filter_map(|line| line.strip_prefix("qdisc ingress ffff: dev ")?.split(' ').next());
    devices.filter(|device| taps.contains(*device)).collect()
}

/// Whether these filters, from what `tc filter show` prints, are the agent's limit of what a machine sends, and nothing else.
pub fn are_limit(filters: &str) -> bool {
    let mut preferences = filters.lines().filter_map(|line| {
        let mut words = line.strip_prefix("filter ")?.split(' ');
        words.find(|word| *word == "pref")?;
        words.next()
    });
    preferences.next() == Some(LIMIT_PREFERENCE) && preferences.all(|preference| preference == LIMIT_PREFERENCE)
}

/// Names of the agent's sets that nothing refers to any more, from what `ipset list -terse` prints.
pub fn unused_sets(list: &str) -> Vec<&str> {
    let mut references: BTreeMap<&str, &str> = BTreeMap::new();
    let mut name = "";
    for line in list.lines() {
        if let Some(found) = line.strip_prefix("Name: ") {
            name = found;
        } else if let Some(count) = line.strip_prefix("References: ") {
            references.insert(name, count);
        }
    }
    let is_unused =
        |(name, count): &(&str, &str)| *count == "0" && SET_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    references.into_iter().filter(is_unused).map(|(name, _)| name).collect()
}
