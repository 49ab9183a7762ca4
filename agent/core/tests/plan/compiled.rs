//! Compiled rules against the reference.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use overlane_abi as abi;
use overlane_core::{
    model::{Mac, SecurityGroupId},
    security::{
        Direction, Ethertype, Filter, Groups, PortSecurity, Remote, Rule, Rulebook, SecurityGroup, Traffic,
        compile::{self, Service},
        model, sources,
    },
};
use proptest::prelude::*;

use crate::groups::{any_security, group_id, net};

/// What the programs do with compiled rules: the longest prefix, then the first match.
fn compiled_admits(policy: &compile::Policy, rulebook: &Rulebook, service: Service, remote: IpAddr) -> bool {
    let covers = |entry: &&Service| {
        let bits = |service: &Service| {
            u64::from_be_bytes([0, 0, 0, 0, 0, service.protocol, service.service_be[0], service.service_be[1]])
        };
        let shift = abi::RuleKey::WHOLE - entry.prefix_len;
        entry.direction == service.direction && bits(entry) >> shift == bits(&service) >> shift
    };
    let Some(longest) = policy.entries.keys().filter(covers).max_by_key(|entry| entry.prefix_len) else { return false };
    let is_member = |set: &compile::SetName| rulebook.sets[set].keys().any(|net| net.contains(&remote));
    assert!(policy.entries[longest].len() <= abi::MATCHES_MAX);
    policy.entries[longest].iter().any(|found| found.set.as_ref().is_none_or(is_member))
}

fn any_packet() -> impl Strategy<Value = (Direction, Service, IpAddr)> {
    let tcp = (Just(6_u8), any::<[u8; 2]>());
    let icmp = (Just(1_u8), any::<[u8; 2]>());
    let other = (Just(47_u8), Just([0, 0]));
    let service = prop_oneof![tcp, icmp, other];
    let remote = (0..8_u8, any::<u8>()).prop_map(|(net, host)| Ipv4Addr::new(10, net, host, 1).into());
    (prop::sample::select(Direction::ALL.to_vec()), service, remote).prop_map(
        |(direction, (protocol, service_be), remote)| {
            let ethertype = Ethertype::IPv4;
            (direction, Service { direction, ethertype, protocol, service_be, prefix_len: abi::RuleKey::WHOLE }, remote)
        },
    )
}

/// The packet, as the reference knows it, between the port and `remote`.
fn packet(direction: Direction, service: Service, remote: IpAddr) -> model::Packet {
    let own = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1));
    let (source, destination) = if direction == Direction::Egress { (own, remote) } else { (remote, own) };
    let [high, low] = service.service_be;
    let transport = match service.protocol {
        6 => model::Transport::Tcp {
            source: 40_000,
            destination: u16::from_be_bytes([high, low]),
            segment: model::Segment::Syn,
        },
        1 => model::Transport::Icmp { kind: high, code: low, message: model::Message::Other },
        _ => model::Transport::Unknown,
    };
    let fragment = model::Fragment::Whole;
    let ip = model::Ip { source, destination, protocol: service.protocol, transport, fragment };
    model::Packet { source_mac: Mac([2; 6]), is_tagged: false, content: model::Content::Ip(ip) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn compiled_rules_admit_what_the_reference_admits(
        security in any_security(),
        chosen in prop::collection::btree_set(0..3_u8, 0..3),
        packets in prop::collection::vec(any_packet(), 1..20),
    ) {
        let ids: BTreeSet<SecurityGroupId> = chosen.into_iter().map(group_id).collect();
        let rulebook = Rulebook::new(security.groups, [ids.clone()]);
        let policy = rulebook.policies[&ids].as_ref().expect("few rules");
        let sources = sources(Mac([2; 6]), &[IpAddr::from(Ipv4Addr::new(10, 0, 0, 1))], []);
        let enforced = PortSecurity::Enforced(Filter { sources, groups: Some(ids.clone()) });
        let port = model::Port { number: 1, mac: Mac([2; 6]), security: enforced, takes_up: false };
        for (direction, service, remote) in packets {
            let packet = packet(direction, service, remote);
            let memory = &mut model::Memory::default();
            let admitted = model::admit(&port, &rulebook.groups, memory, direction, &packet).is_ok();
            let compiled = compiled_admits(policy, &rulebook, service, remote);
            prop_assert_eq!(compiled, admitted, "{:?} {}", packet, service);
        }
    }

    #[test]
    fn more_groups_than_an_entry_has_room_for_are_merged(members in prop::collection::vec(0..30_u8, 1..4)) {
        let group = |number: u8| SecurityGroup {
            is_stateful: true,
            members: [net(number % 6)].into(),
            ..SecurityGroup::default()
        };
        let mut security: BTreeMap<_, _> = (0..30).map(|number| (group_id(number), group(number))).collect();
        let from = |number| Rule {
            direction: Direction::Ingress,
            ethertype: Ethertype::IPv4,
            traffic: Traffic::Any,
            remote: Remote::Group(group_id(number)),
        };
        let first = security.get_mut(&group_id(0)).expect("made above");
        first.rules = (0..30).map(from).collect();
        let groups = Groups { security, ..Groups::default() };
        let rulebook = Rulebook::new(groups, [[group_id(0)].into()]);
        let policy = rulebook.policies.values().next().expect("one").as_ref().expect("few rules");
        let any = Service {
            direction: Direction::Ingress,
            ethertype: Ethertype::IPv4,
            protocol: 47,
            service_be: [0; 2],
            prefix_len: abi::RuleKey::WHOLE,
        };
        prop_assert_eq!(policy.entries.values().next().map(Vec::len), Some(1));
        for number in members {
            prop_assert!(compiled_admits(policy, &rulebook, any, net(number % 6).addr()));
        }
        prop_assert!(!compiled_admits(policy, &rulebook, any, Ipv4Addr::new(192, 0, 2, 1).into()));
    }
}
