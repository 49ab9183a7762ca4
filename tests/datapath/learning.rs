//! `from_uplink` in a network whose members are learned: the kernel must see a sender before the fast lane may.

use std::net::IpAddr;

use overlane_abi::{DropReason, FdbEntry, FdbKey, Hook, Network, NetworkKey, Outcome, names};
use overlane_tests::packet::Vxlan;

use crate::{
    harness::{Datapath, Verdict},
    network::{INDEX, THERE, VNI, families, host, inbound, v4},
};

const DECAPSULATED: Verdict = Verdict::Redirect(Outcome::Decapsulated);

fn learning_host() -> Datapath {
    let mut datapath = host(v4());
    learn(&mut datapath, Network::LEARNS);
    datapath
}

fn learn(datapath: &mut Datapath, flags: u32) {
    datapath.put(names::NETWORKS, NetworkKey::vni(VNI), Network { index: INDEX, vni: VNI, flags });
}

#[test]
fn a_packet_from_where_its_sender_is_known_to_be_is_decapsulated() {
    let mut datapath = learning_host();
    for (_, inner) in families().into_iter().filter(|(outer, _)| outer.local_vtep.is_ipv4()) {
        let (tunnel, frame) = inbound(v4(), inner);
        datapath.expect(Hook::FromUplink, &tunnel.wrap(&frame), DECAPSULATED);
    }
}

#[test]
fn a_packet_from_an_unknown_endpoint_is_left_to_the_kernel_to_learn_from() {
    let mut datapath = learning_host();
    let (tunnel, frame) = inbound(v4(), v4());
    let mut stranger: Vxlan = tunnel;
    stranger.outer.source = IpAddr::from([10, 10, 10, 77]);
    datapath.expect_pass(Hook::FromUplink, &stranger.wrap(&frame), Outcome::UnknownSource);
}

#[test]
fn a_sender_that_was_elsewhere_or_nowhere_is_left_to_the_kernel_to_learn_from() {
    let mut datapath = learning_host();
    let (tunnel, frame) = inbound(v4(), v4());
    let elsewhere = FdbEntry::remote(IpAddr::from([10, 10, 10, 77]).into());
    datapath.put(names::FDB, FdbKey::new(INDEX, THERE), elsewhere);
    datapath.expect_pass(Hook::FromUplink, &tunnel.wrap(&frame), Outcome::UnknownSource);
    // What is for it follows it, whether or not an agent hears of what the kernel learns.
    expect_forgotten(&mut datapath);
    datapath.expect_pass(Hook::FromUplink, &tunnel.wrap(&frame), Outcome::UnknownSource);
    datapath.put(names::FDB, FdbKey::new(INDEX, THERE), FdbEntry::local(99));
    datapath.expect_pass(Hook::FromUplink, &tunnel.wrap(&frame), Outcome::UnknownSource);
}

#[test]
fn where_endpoints_are_known_a_stranger_is_refused_and_a_sender_that_moves_between_them_is_learned() {
    let mut datapath = learning_host();
    learn(&mut datapath, Network::LEARNS | Network::HAS_KNOWN_VTEPS);
    let (tunnel, frame) = inbound(v4(), v4());
    datapath.expect(Hook::FromUplink, &tunnel.wrap(&frame), DECAPSULATED);
    let mut stranger = tunnel;
    stranger.outer.source = IpAddr::from([10, 10, 10, 77]);
    datapath.expect(Hook::FromUplink, &stranger.wrap(&frame), Verdict::Drop(DropReason::UnknownVtep));
    let elsewhere = FdbEntry::remote(IpAddr::from([10, 10, 10, 78]).into());
    datapath.put(names::FDB, FdbKey::new(INDEX, THERE), elsewhere);
    datapath.expect_pass(Hook::FromUplink, &tunnel.wrap(&frame), Outcome::UnknownSource);
    expect_forgotten(&mut datapath);
}

fn expect_forgotten(datapath: &mut Datapath) {
    let known = datapath.entries::<FdbKey, FdbEntry>(names::FDB);
    assert!(known.iter().all(|(key, _)| *key != FdbKey::new(INDEX, THERE)), "it is still believed to be elsewhere");
}
