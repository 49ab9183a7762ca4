//! Security groups, as far as ports of this host have or name them.
//!
//! Rules and members belong to groups, not to ports: what the server says about one port is true for every other one that has
//! the same group. So after a change one port for each group is asked about, however many there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use uuid::Uuid;

use super::messages::{BadEntry, objects::AddressGroup, security::SecurityGroupInfo};
use crate::{
    model::{PortId, SecurityGroupId},
    security::{self, Ethertype, Remote, Rule, Rulebook},
};

/// What the server has said about groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    of_ports: BTreeMap<PortId, BTreeSet<SecurityGroupId>>,
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
    /// Takes in an answer, and returns what of it is not understood: such rules and members admit nobody.
    pub fn learn(&mut self, info: &SecurityGroupInfo) -> Vec<BadEntry> {
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
            self.of_ports.insert(*port, groups);
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
        bad
    }

    /// Takes in which groups a port has.
    pub fn assign(&mut self, port: PortId, groups: BTreeSet<SecurityGroupId>) {
        self.of_ports.insert(port, groups);
    }

    /// The port has left this host.
    pub fn forget(&mut self, port: PortId) {
        self.of_ports.remove(&port);
    }

    /// Takes in the addresses of an address group, if any rule here names it.
    pub fn learn_addresses(&mut self, group: &AddressGroup) {
        for family in Ethertype::ALL {
            if let Some(members) = self.members.get_mut(&(group.id.0, family)) {
                let nets = group.addresses.iter().map(|object| object.data.address.trunc());
                *members = nets.filter(|net| Ethertype::of(net) == family).collect();
            }
        }
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
        let rules = self.rules.get(&group).map(|group| &group.rules);
        let remote = |rule: &Rule| match rule.remote {
            Remote::Group(id) => Some((id.0, rule.ethertype)),
            Remote::AddressGroup(id) => Some((id.0, rule.ethertype)),
            Remote::Any | Remote::Prefix(_) => None,
        };
        rules.into_iter().flatten().filter_map(remote).collect()
    }

    /// Ports to ask about so that the answers have the rules of `groups`, as far as anybody here has them.
    pub fn who_has(&self, groups: &BTreeSet<SecurityGroupId>) -> BTreeSet<PortId> {
        let who = |group: &SecurityGroupId| {
            let mut ports = self.of_ports.iter();
            ports.find(|(_, groups)| groups.contains(group)).map(|(port, _)| *port)
        };
        groups.iter().filter_map(who).collect()
    }

    /// Ports to ask about so that the answers have the members of `groups`, as far as any rule here names them.
    pub fn who_names(&self, groups: &BTreeSet<SecurityGroupId>) -> BTreeSet<PortId> {
        let naming: BTreeMap<SecurityGroupId, BTreeSet<(Uuid, Ethertype)>> =
            self.rules.keys().map(|group| (*group, self.named_by(*group))).collect();
        let who = |key: (Uuid, Ethertype)| {
            let names = |group: &SecurityGroupId| naming.get(group).is_some_and(|named| named.contains(&key));
            self.of_ports.iter().find(|(_, groups)| groups.iter().any(names)).map(|(port, _)| *port)
        };
        let keys = groups.iter().flat_map(|group| Ethertype::ALL.map(|family| (group.0, family)));
        keys.filter_map(who).collect()
    }

    /// Every group that a port here has.
    pub fn all(&self) -> BTreeSet<SecurityGroupId> {
        self.of_ports.values().flatten().copied().collect()
    }

    /// Whether others than its owner may use an address.
    pub fn is_shared(&self, address: IpAddr) -> bool {
        self.pairs.values().flatten().any(|pair| pair.contains(&address))
    }

    /// What the groups of some ports come to.
    pub fn rulebook(&self, of_ports: BTreeSet<BTreeSet<SecurityGroupId>>) -> Rulebook {
        let mut groups = security::Groups::default();
        let both = |id: Uuid| {
            let of_family = |family| self.members.get(&(id, family)).into_iter().flatten().copied();
            Ethertype::ALL.into_iter().flat_map(of_family).collect::<BTreeSet<IpNet>>()
        };
        for id in of_ports.iter().flatten() {
            let Some(known) = self.rules.get(id) else { continue };
            let group = groups.security.entry(*id).or_default();
            (group.is_stateful, group.rules) = (known.is_stateful, known.rules.clone());
            for rule in &known.rules {
                match rule.remote {
                    Remote::Group(remote) => groups.security.entry(remote).or_default().members = both(remote.0),
                    Remote::AddressGroup(remote) => _ = groups.address.insert(remote, both(remote.0)),
                    Remote::Any | Remote::Prefix(_) => (),
                }
            }
        }
        for (id, group) in &mut groups.security {
            group.name = id.to_string();
        }
        Rulebook::new(groups, of_ports)
    }
}
