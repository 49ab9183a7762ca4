//! Security groups, as far as ports of this host have or name them.
//!
//! Rules and members belong to groups, not to ports: what the server says about one port is true for every other one that has
//! the same group. So after a change one port for each group is asked about, however many there are. Nobody is asked about groups
//! that no port here has or names: these are forgotten, as nothing would tell that they have changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use uuid::Uuid;

use super::messages::{BadEntry, security::SecurityGroupInfo};
use crate::{
    model::{PortId, SecurityGroupId},
    security::{self, Ethertype, Remote, Rule, Rulebook},
};

/// What the server has said about groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Of ports whose taps are here, whether they work or not.
    of_ports: BTreeMap<PortId, BTreeSet<SecurityGroupId>>,
    /// Those of them that the last answer about them has left out: it says nothing of their groups either.
    left_out: BTreeSet<PortId>,
    rules: BTreeMap<SecurityGroupId, Rules>,
    /// Of security groups and address groups, by family.
    members: BTreeMap<(Uuid, Ethertype), BTreeSet<IpNet>>,
    /// Those of them that are allowed address pairs: more than one port may use them.
    pairs: BTreeMap<(Uuid, Ethertype), BTreeSet<IpNet>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rules {
    is_stateful: bool,
    rules: BTreeSet<Rule>,
}

impl Groups {
    /// Takes in an answer, and returns what of it is not understood: such rules and members admit nobody. What it says of groups is
    /// true also if the tap that was asked about has gone meanwhile.
    pub fn learn(&mut self, info: &SecurityGroupInfo, is_here: impl Fn(PortId) -> bool) -> Vec<BadEntry> {
        let mut bad = [&info.devices.bad[..], &info.security_groups.bad, &info.sg_member_ips.bad].concat();
        for (id, group) in &info.security_groups.good {
            bad.extend_from_slice(&group.bad);
            let mut rules = BTreeSet::new();
            for rule in &group.good {
                match rule.rule() {
                    Ok(rule) => _ = rules.insert(rule),
                    Err(error) => bad.push(BadEntry { name: format!("a rule of security group {id}"), error }),
                }
            }
            let is_stateful = group.good.first().and_then(|rule| rule.stateful).unwrap_or(true);
            self.rules.insert(*id, Rules { is_stateful, rules });
        }
        for (port, device) in &info.devices.good {
            let groups: BTreeSet<SecurityGroupId> = device.security_groups.iter().copied().collect();
            for group in &groups {
                // A group without rules may be left out.
                self.rules.entry(*group).or_insert_with(|| Rules { is_stateful: true, rules: BTreeSet::new() });
            }
            if is_here(*port) {
                self.left_out.remove(port);
                self.of_ports.insert(*port, groups);
            }
        }
        for members in info.sg_member_ips.good.values() {
            bad.extend([&members.ipv4.bad[..], &members.ipv6.bad].concat());
        }
        // A group without members of a family may be left out, too.
        let asked = info.devices.good.values().flat_map(|device| &device.security_groups);
        let named: BTreeSet<(Uuid, Ethertype)> = asked.flat_map(|group| self.named_by(*group)).collect();
        for (id, family) in named {
            let members = info.sg_member_ips.good.get(&id).map(|members| match family {
                Ethertype::IPv4 => &members.ipv4.good,
                Ethertype::IPv6 => &members.ipv6.good,
            });
            let members = members.into_iter().flatten();
            let (mut nets, mut pairs) = (BTreeSet::new(), BTreeSet::new());
            for member in members {
                nets.insert(member.net.trunc());
                pairs.extend(member.mac.map(|_| member.net.trunc()));
            }
            self.members.insert((id, family), nets);
            self.pairs.insert((id, family), pairs);
        }
        self.forget_unused();
        bad
    }

    /// Takes in that an answer about some taps lacks some of them, as it does when the server has their ports no more. Returns whom
    /// to ask instead.
    pub fn leave_out(&mut self, taps: &[String], info: &SecurityGroupInfo) -> BTreeSet<PortId> {
        let is_left_out = |port: &PortId| !info.devices.good.contains_key(port) && taps.contains(&port.tap_name());
        let (mut ports, mut groups) = (BTreeSet::new(), BTreeSet::new());
        for (port, of_port) in self.of_ports.iter().filter(|(port, _)| is_left_out(port)) {
            ports.insert(*port);
            groups.extend(of_port);
        }
        self.left_out.extend(ports);
        self.heirs(&groups)
    }

    /// Takes in which groups a port has, and returns whether it had others.
    pub fn assign(&mut self, port: PortId, groups: BTreeSet<SecurityGroupId>) -> bool {
        let former = self.of_ports.insert(port, groups);
        let is_other = former.is_some_and(|former| self.of_ports.get(&port) != Some(&former));
        if is_other {
            self.forget_unused();
        }
        is_other
    }

    /// A tap has left this host, or its port does not work here. Returns whom to ask instead.
    pub fn forget(&mut self, tap: &str) -> BTreeSet<PortId> {
        let ports: Vec<PortId> = self.of_ports.keys().filter(|port| port.tap_name() == tap).copied().collect();
        let mut groups = BTreeSet::new();
        for port in ports {
            self.left_out.remove(&port);
            groups.extend(self.of_ports.remove(&port).into_iter().flatten());
        }
        let heirs = self.heirs(&groups);
        self.forget_unused();
        heirs
    }

    /// Ports to ask about so that the answers have of `groups`, and of what their rules name, all that matters to ports here.
    fn heirs(&self, groups: &BTreeSet<SecurityGroupId>) -> BTreeSet<PortId> {
        let heir = |groups| self.one_of(&groups).filter(|port| !self.left_out.contains(port));
        let of_group = |group: &SecurityGroupId| match heir([*group].into()) {
            Some(port) => vec![port],
            None => self.named_by(*group).into_iter().filter_map(|key| heir(self.naming(key))).collect(),
        };
        groups.iter().flat_map(of_group).collect()
    }

    /// What no port here has or names any more would be out of date when one does again.
    fn forget_unused(&mut self) {
        let used = self.all();
        self.rules.retain(|group, _| used.contains(group));
        let named: BTreeSet<(Uuid, Ethertype)> = self.rules.keys().flat_map(|group| self.named_by(*group)).collect();
        self.members.retain(|key, _| named.contains(key));
        self.pairs.retain(|key, _| named.contains(key));
    }

    /// The groups of a port; `None` while they, or what their rules name, are not known.
    pub fn of(&self, port: PortId) -> Option<&BTreeSet<SecurityGroupId>> {
        let groups = self.of_ports.get(&port)?;
        groups.iter().all(|group| self.is_known(*group)).then_some(groups)
    }

    fn is_known(&self, group: SecurityGroupId) -> bool {
        self.rules.contains_key(&group) && self.named_by(group).iter().all(|key| self.members.contains_key(key))
    }

    /// The groups that the rules of one name, by the family of the rules.
    fn named_by(&self, group: SecurityGroupId) -> BTreeSet<(Uuid, Ethertype)> {
        self.rules.get(&group).into_iter().flat_map(|group| &group.rules).filter_map(named).collect()
    }

    /// The groups whose rules name one.
    fn naming(&self, key: (Uuid, Ethertype)) -> BTreeSet<SecurityGroupId> {
        let names = |rules: &Rules| rules.rules.iter().any(|rule| named(rule) == Some(key));
        self.rules.iter().filter(|(_, rules)| names(rules)).map(|(group, _)| *group).collect()
    }

    /// A port that has one of `groups`; one that answers leave out only if there is no other.
    fn one_of(&self, groups: &BTreeSet<SecurityGroupId>) -> Option<PortId> {
        let ports = self.of_ports.iter().filter(|(_, of_port)| !of_port.is_disjoint(groups)).map(|(port, _)| *port);
        ports.min_by_key(|port| (self.left_out.contains(port), *port))
    }

    /// Ports to ask about so that the answers have the rules of `groups`, as far as anybody here has them.
    pub fn who_has(&self, groups: &BTreeSet<SecurityGroupId>) -> BTreeSet<PortId> {
        groups.iter().filter_map(|group| self.one_of(&[*group].into())).collect()
    }

    /// Ports to ask about so that the answers have the members of security groups and address groups, as far as any rule here
    /// names them.
    pub fn who_names(&self, groups: &BTreeSet<Uuid>) -> BTreeSet<PortId> {
        let keys = groups.iter().flat_map(|group| Ethertype::ALL.map(|family| (*group, family)));
        keys.filter_map(|key| self.one_of(&self.naming(key))).collect()
    }

    /// Those of a port's groups that rules here name and whose allowed address pairs may be others than is known. Whose the pairs
    /// of a group are is not known, so that they are the same for sure only if the group has no others than the port.
    pub fn with_other_pairs(&self, groups: &[SecurityGroupId], pairs: &BTreeSet<IpNet>) -> BTreeSet<Uuid> {
        let is_other = |(id, family): (Uuid, Ethertype)| {
            let told = pairs.iter().filter(|net| Ethertype::of(net) == family);
            self.pairs.get(&(id, family)).is_some_and(|known| !known.iter().eq(told))
        };
        let ids = groups.iter().map(|group| group.0);
        ids.filter(|id| Ethertype::ALL.into_iter().any(|family| is_other((*id, family)))).collect()
    }

    /// Every group that a port here has.
    pub fn all(&self) -> BTreeSet<SecurityGroupId> {
        self.of_ports.values().flatten().copied().collect()
    }

    /// Whether others than its owner may use an address.
    pub fn is_shared(&self, address: IpAddr) -> bool {
        self.pairs.values().flatten().any(|pair| pair.contains(&address))
    }

    /// What the groups of some ports come to. Ports may be held to groups that they have no more, until their new ones are known:
    /// these groups stay as they were in the former rulebook.
    pub fn rulebook(&self, of_ports: BTreeSet<BTreeSet<SecurityGroupId>>, former: &Rulebook) -> Rulebook {
        let former = &former.groups;
        let mut groups = security::Groups::default();
        for id in of_ports.iter().flatten() {
            let known = self.rules.get(id).map(|group| (group.is_stateful, &group.rules));
            let known = known.or_else(|| former.security.get(id).map(|group| (group.is_stateful, &group.rules)));
            let Some((is_stateful, rules)) = known else { continue };
            let group = groups.security.entry(*id).or_default();
            (group.is_stateful, group.rules) = (is_stateful, rules.clone());
            for rule in rules {
                match rule.remote {
                    Remote::Group(remote) => {
                        let former = former.security.get(&remote).map(|group| &group.members);
                        groups.security.entry(remote).or_default().members = self.members(remote.0, former);
                    }
                    Remote::AddressGroup(remote) => {
                        let members = self.members(remote.0, former.address.get(&remote));
                        groups.address.insert(remote, members);
                    }
                    Remote::Any | Remote::Prefix(_) => (),
                }
            }
        }
        for (id, group) in &mut groups.security {
            group.name = id.to_string();
        }
        Rulebook::new(groups, of_ports)
    }

    /// The members of a group; of families that are not known, those that there were.
    fn members(&self, id: Uuid, former: Option<&BTreeSet<IpNet>>) -> BTreeSet<IpNet> {
        let mut members = BTreeSet::new();
        for family in Ethertype::ALL {
            match self.members.get(&(id, family)) {
                Some(known) => members.extend(known),
                None => members.extend(former.into_iter().flatten().filter(|net| Ethertype::of(net) == family)),
            }
        }
        members
    }
}

/// The group that a rule names, by the family of the rule.
fn named(rule: &Rule) -> Option<(Uuid, Ethertype)> {
    match rule.remote {
        Remote::Group(id) => Some((id.0, rule.ethertype)),
        Remote::AddressGroup(id) => Some((id.0, rule.ethertype)),
        Remote::Any | Remote::Prefix(_) => None,
    }
}
