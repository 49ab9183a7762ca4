//! Changes under established flows: they are judged again, at once and without a search.

use overlane_abi::{Direction, DropReason, Match, RuleKey, names};

use crate::{
    network::v4,
    security::world::{ACK, ANYBODY, GENERATION, POLICY, TCP, THERE_PORT, World, answers, asks, both, received, sent},
};

use Direction::{Egress, Ingress};

const SET: u32 = 5;
const MEMBERS: Match = Match { set: SET, rule: 2, flags: Match::USED };

#[test]
fn a_rule_that_is_gone_ends_its_flows_with_the_new_revision() {
    for family in both() {
        let mut world = World::new();
        world.allow(Egress, RuleKey::WHOLE, (TCP, THERE_PORT), &[ANYBODY]);
        world.connect(family);
        // The port is given another policy, without the rule.
        world.update(|port| port.policy += 1);
        world.receives(&received(family, ACK));
        world.update(|port| port.revision += 1);
        world.may_not_receive(&received(family, ACK), DropReason::NoRuleIngress);
        world.may_not_send(&sent(family, ACK), DropReason::NoRuleEgress);
        assert_eq!(world.counts(family), (0, 0));
    }
}

#[test]
fn flows_that_the_rules_still_admit_go_on_in_either_direction() {
    for family in both() {
        let mut world = World::new();
        world.allow(Egress, RuleKey::WHOLE, (TCP, THERE_PORT), &[ANYBODY]);
        world.connect(family);
        for packet in 0..4 {
            world.update(|port| port.revision += 1);
            if packet % 2 == 0 {
                world.receives(&received(family, ACK));
            } else {
                world.sends(&sent(family, ACK));
            }
            assert_eq!(world.counts(family), (1, 0));
        }
        // Once for the first packet, and once for every revision.
        assert_eq!(world.datapath.hits(POLICY, 1).0, 5);
        world.receives(&received(family, ACK));
        assert_eq!(world.datapath.hits(POLICY, 1).0, 5);
    }
}

#[test]
fn a_flow_that_has_lost_its_rule_may_be_admitted_from_the_other_side() {
    for family in both() {
        let mut world = World::new();
        world.allow(Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
        world.sends(&asks(family));
        world.receives(&answers(family));
        world.allow(Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[]);
        world.allow(Ingress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
        world.update(|port| port.revision += 1);
        world.receives(&answers(family));
        world.sends(&asks(family));
    }
}

#[test]
fn a_member_that_leaves_loses_its_flows_at_once_and_nobody_else_does() {
    for family in both() {
        let mut world = World::new();
        world.allow(Ingress, RuleKey::ANY_PROTOCOL, (0, 0), &[MEMBERS]);
        world.allow(Egress, RuleKey::WHOLE, (TCP, THERE_PORT), &[ANYBODY]);
        world.join(SET, family.there, 0);
        world.receives(&answers(family));
        world.sends(&asks(family));
        world.connect(family);
        world.leave(SET, family.there);
        world.receives(&answers(family));
        world.datapath.set(names::GENERATION, GENERATION + 1);
        world.may_not_receive(&answers(family), DropReason::NoRuleIngress);
        world.may_not_send(&asks(family), DropReason::NoRuleEgress);
        let asked = world.datapath.hits(POLICY, 1).0;
        world.receives(&received(family, ACK));
        assert_eq!(world.datapath.hits(POLICY, 1).0, asked);
    }
}

#[test]
fn a_member_that_stays_keeps_its_flows_over_generations() {
    let mut world = World::new();
    world.allow(Ingress, RuleKey::ANY_PROTOCOL, (0, 0), &[MEMBERS]);
    world.join(SET, v4().there, 0);
    world.receives(&answers(v4()));
    for generation in 1..4 {
        world.datapath.set(names::GENERATION, GENERATION + generation);
        world.sends(&asks(v4()));
        world.receives(&answers(v4()));
    }
    assert_eq!(world.counts(v4()), (1, 0));
}

#[test]
fn an_address_that_is_taken_away_is_no_source_any_more() {
    for family in both() {
        let mut world = World::open();
        world.connect(family);
        let key = crate::security::world::source(family, crate::network::HERE);
        world.datapath.remove::<_, overlane_abi::Source>(names::SOURCES, key);
        world.update(|port| port.revision += 1);
        world.may_not_send(&sent(family, ACK), DropReason::SpoofedIp);
        // Nor when the other side has spoken in between.
        world.receives(&received(family, ACK));
        world.may_not_send(&sent(family, ACK), DropReason::SpoofedIp);
    }
}

#[test]
fn a_rule_that_has_become_stateless_admits_one_direction() {
    for family in both() {
        let mut world = World::new();
        world.allow(Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
        world.sends(&asks(family));
        world.receives(&answers(family));
        let stateless = Match { flags: Match::USED | Match::STATELESS, ..ANYBODY };
        world.allow(Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[stateless]);
        world.update(|port| port.revision += 1);
        world.sends(&asks(family));
        world.may_not_receive(&answers(family), DropReason::NoRuleIngress);
    }
}

#[test]
fn a_tap_that_is_plugged_again_judges_its_flows_again() {
    let mut world = World::new();
    world.allow(Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
    world.connect(v4());
    // What another tap has admitted counts for nothing here.
    let flows = world.flows4(names::CONNTRACK4);
    let (key, mut flow) = flows[0];
    flow.ends[0].ifindex = 77;
    world.datapath.put(names::CONNTRACK4, key, flow);
    world.receives(&received(v4(), ACK));
    world.allow(Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[]);
    world.datapath.put(names::CONNTRACK4, key, flow);
    world.may_not_receive(&received(v4(), ACK), DropReason::NoRuleIngress);
}
