//! `from_uplink` in a network whose members are learned: the kernel must see a sender before the fast lane may.

use std::net::IpAddr;

use overlane_abi::{FdbEntry, FdbKey, Hook, Network, NetworkKey, Outcome, names};
use overlane_tests::packet::Vxlan;

use crate::{
    harness::{Datapath, Verdict},
    network::{INDEX, THERE, VNI, families, host, inbound, v4},
};

const DECAPSULATED: Verdict = Verdict::Redirect(Outcome::Decapsulated);

fn learning_host() -> Datapath {
    let mut datapath = host(v4());
    let network = Network { index: INDEX, vni: VNI, flags: Network::LEARNS };
    datapath.put(names::NETWORKS, NetworkKey::vni(VNI), network);
    datapath
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
    datapath.put(names::FDB, FdbKey::new(INDEX, THERE), FdbEntry::local(99));
    datapath.expect_pass(Hook::FromUplink, &tunnel.wrap(&frame), Outcome::UnknownSource);
}
