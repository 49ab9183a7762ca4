//! Ports of one host: local switching, and what happens at interfaces that the agent has not announced.

use overlane_abi::{Hook, Outcome};
use overlane_tests::packet::Ends;

use crate::{
    harness::{Datapath, Load, Verdict},
    network::{HERE, HOOKS, NEIGHBOUR, families, host, inbound, outbound, shortest, v4, v6},
};

#[test]
fn a_packet_for_a_port_of_the_same_host_is_switched_without_a_tunnel() {
    for inner in [v4(), v6()] {
        let mut datapath = host(v4());
        let frame = Ends { destination_mac: NEIGHBOUR, ..outbound(inner) }.tcp(100);
        let output = datapath.expect(Hook::FromPort, &frame, Verdict::Redirect(Outcome::Delivered));
        assert_eq!(output, frame);
    }
}

#[test]
fn a_packet_that_a_port_sends_to_itself_is_left_to_the_kernel() {
    let frame = Ends { destination_mac: HERE, ..outbound(v4()) }.udp(10);
    host(v4()).expect_pass(Hook::FromPort, &frame, Outcome::NotOurs);
}

#[test]
fn what_a_port_receives_is_counted_and_let_in() {
    for inner in [v4(), v6()] {
        host(v4()).expect_pass(Hook::ToPort, &outbound(inner).reversed().udp(10), Outcome::Admitted);
    }
}

#[test]
fn an_interface_with_a_place_in_the_array_counts_there_and_goes_on_from_what_it_has_counted_before() {
    let mut datapath = host(v4());
    let frame = Ends { destination_mac: NEIGHBOUR, ..outbound(v4()) }.udp(10);
    datapath.expect(Hook::FromPort, &frame, Verdict::Redirect(Outcome::Delivered));
    datapath.give_counter_slot();
    for _ in 0..3 {
        datapath.expect(Hook::FromPort, &frame, Verdict::Redirect(Outcome::Delivered));
    }
    assert_eq!(datapath.counted_in_hash(), 1, "packets that were counted in the hash");
}

#[test]
fn at_an_interface_without_an_entry_everything_is_left_to_the_kernel() {
    let mut datapath = Datapath::load(v4().local_vtep);
    for hook in [Hook::FromPort, Hook::ToPort, Hook::FromOverlay, Hook::ToVlan] {
        datapath.expect_pass(hook, &outbound(v4()).udp(10), Outcome::UnknownPort);
    }
    let (tunnel, frame) = inbound(v4(), v4());
    datapath.expect_pass(Hook::FromUplink, &tunnel.wrap(&frame), Outcome::UnknownNetwork);
}

#[test]
fn no_frame_is_too_short_or_too_garbled_for_any_program() {
    for (outer, inner) in families() {
        let mut datapath = host(outer);
        let frame = outbound(inner).udp(60);
        for hook in HOOKS {
            for length in shortest(inner)..frame.0.len() {
                datapath.survives(hook, &frame.clone().truncated(length));
            }
            for offset in 0..frame.0.len() {
                datapath.survives(hook, &frame.clone().with_byte(offset, frame.0[offset] ^ 0xff));
            }
        }
    }
}

#[test]
fn the_verifier_takes_every_program_whatever_is_switched_on() {
    for (forwarding, debug) in [(true, false), (true, true), (false, true)] {
        let load = Load { forwarding, debug, closed: true, log_rate: 100, ..Load::default() };
        let mut datapath = Datapath::load_with(v4().local_vtep, load);
        for hook in HOOKS {
            datapath.survives(hook, &outbound(v4()).udp(10));
        }
    }
}
