//! The ARP and ND responder: what it answers, and where it must keep silent.

use std::net::IpAddr;

use overlane_abi::{Hook, Neighbor, NeighborKey, Outcome, Port, names};
use overlane_tests::packet::{BROADCAST, Ends, Frame, arp, neighbor_discovery};

use crate::{
    harness::{Datapath, IFINDEX, Verdict, check},
    network::{HERE, INDEX, THERE, VNI, address, host, outbound, v4, v6},
};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

const ANSWERED: Verdict = Verdict::Redirect(Outcome::Answered);
const UNKNOWN: [u8; 6] = [0; 6];

fn who_has(target: IpAddr) -> Ends {
    Ends { destination_mac: BROADCAST, destination: target, ..outbound(v4()) }
}

/// A solicitation for `target`, to its solicited-node multicast address (RFC 4291 §2.7.1).
fn solicitation(source: IpAddr, target: IpAddr) -> Frame {
    let IpAddr::V6(v6_target) = target else { panic!("IPv6 only") };
    let [.., a, b, c] = v6_target.octets();
    let group = format!("ff02::1:ff{a:02x}:{b:02x}{c:02x}");
    let ends =
        Ends { destination_mac: [0x33, 0x33, 0xff, a, b, c], source, destination: address(&group), ..outbound(v6()) };
    neighbor_discovery(&ends, SOLICITATION, 0, target, HERE)
}

fn expect_answer(datapath: &mut Datapath, question: &Frame, answer: &Frame) {
    let output = datapath.expect(Hook::FromPort, question, ANSWERED);
    check(Hook::FromPort, ANSWERED, (question, &output), &output, answer, "the answer is wrong");
}

fn expect_silence(datapath: &mut Datapath, frame: &Frame) {
    datapath.expect_pass(Hook::FromPort, frame, Outcome::Flood);
}

#[test]
fn an_arp_request_for_a_known_address_is_answered_by_its_owner() {
    let question = arp(&who_has(v4().there), REQUEST, UNKNOWN);
    let answer = arp(&outbound(v4()).reversed(), REPLY, HERE);
    expect_answer(&mut host(v4()), &question, &answer);
}

#[test]
fn a_padded_arp_request_is_answered_and_the_padding_stays() {
    let mut question = arp(&who_has(v4().there), REQUEST, UNKNOWN);
    let mut answer = arp(&outbound(v4()).reversed(), REPLY, HERE);
    question.0.resize(60, 0);
    answer.0.resize(60, 0);
    expect_answer(&mut host(v4()), &question, &answer);
}

#[test]
fn a_neighbour_solicitation_for_a_known_address_is_answered_by_its_owner() {
    let question = solicitation(v6().here, v6().there);
    let ends = outbound(v6()).reversed();
    let answer = neighbor_discovery(&ends, ADVERTISEMENT, SOLICITED | OVERRIDE, v6().there, THERE);
    expect_answer(&mut host(v4()), &question, &answer);
}

#[test]
fn a_routers_answer_says_that_it_is_a_router() {
    let mut datapath = host(v4());
    let key = NeighborKey { network: INDEX, address: v6().there.into() };
    datapath.put(names::NEIGHBORS, key, Neighbor { mac: THERE, flags: Neighbor::ROUTER });
    let flags = ROUTER | SOLICITED | OVERRIDE;
    let answer = neighbor_discovery(&outbound(v6()).reversed(), ADVERTISEMENT, flags, v6().there, THERE);
    expect_answer(&mut datapath, &solicitation(v6().here, v6().there), &answer);
}

#[test]
fn a_question_about_an_unknown_address_is_flooded() {
    let mut datapath = host(v4());
    expect_silence(&mut datapath, &arp(&who_has(address("10.0.0.77")), REQUEST, UNKNOWN));
    expect_silence(&mut datapath, &solicitation(v6().here, address("fd00::77")));
}

#[test]
fn announcements_replies_and_questions_about_oneself_are_flooded() {
    let mut datapath = host(v4());
    let own = NeighborKey { network: INDEX, address: v4().here.into() };
    datapath.put(names::NEIGHBORS, own, Neighbor { mac: HERE, flags: 0 });
    // Gratuitous, as a request and as a reply.
    expect_silence(&mut datapath, &arp(&who_has(v4().here), REQUEST, UNKNOWN));
    expect_silence(&mut datapath, &arp(&who_has(v4().here), REPLY, HERE));
    // A probe for an address that is its own (RFC 5227).
    let probe = Ends { source: address("0.0.0.0"), ..who_has(v4().here) };
    expect_silence(&mut datapath, &arp(&probe, REQUEST, UNKNOWN));
}

#[test]
fn a_gratuitous_arp_for_somebody_elses_address_is_flooded() {
    let taken_over = Ends { source: v4().there, ..who_has(v4().there) };
    expect_silence(&mut host(v4()), &arp(&taken_over, REQUEST, UNKNOWN));
}

#[test]
fn duplicate_address_detection_is_flooded_for_the_owner_to_defend_itself() {
    expect_silence(&mut host(v4()), &solicitation(address("::"), v6().there));
}

#[test]
fn unusual_questions_are_flooded() {
    let mut datapath = host(v4());
    let question = arp(&who_has(v4().there), REQUEST, UNKNOWN);
    const HARDWARE_TYPE: usize = 15;
    const PROTOCOL_TYPE: usize = 16;
    const PROTOCOL_LENGTH: usize = 19;
    for offset in [HARDWARE_TYPE, PROTOCOL_TYPE, PROTOCOL_LENGTH] {
        expect_silence(&mut datapath, &question.clone().with_byte(offset, 0x42));
    }
    expect_silence(&mut datapath, &question.truncated(41));
    let question = solicitation(v6().here, v6().there);
    const HOP_LIMIT: usize = 21;
    const CODE: usize = 55;
    const OPTION: usize = 78;
    const OPTION_LENGTH: usize = 79;
    for (offset, value) in [(HOP_LIMIT, 64), (CODE, 1), (OPTION, 14), (OPTION_LENGTH, 2)] {
        expect_silence(&mut datapath, &question.clone().with_byte(offset, value));
    }
    expect_silence(&mut datapath, &question.truncated(80));
}

#[test]
fn a_port_whose_responder_is_off_gets_no_answers() {
    let mut datapath = host(v4());
    let port = Port { network: INDEX, vni: VNI, mac: HERE, flags: 0, mtu: 0, policy: 0, revision: 0 };
    datapath.put(names::PORTS, IFINDEX, port);
    expect_silence(&mut datapath, &arp(&who_has(v4().there), REQUEST, UNKNOWN));
    expect_silence(&mut datapath, &solicitation(v6().here, v6().there));
}
