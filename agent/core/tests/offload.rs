//! Which lane superpackets take, from what NIC and kernel can do.

use std::net::IpAddr;

use overlane_core::offload::{Lane, NicFeatures, RoomHelper, Superpackets};
use proptest::prelude::*;

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 10, 10, 11));
const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
const GOOD: RoomHelper = RoomHelper { makes_room: Some(true), strips_tunnels: Some(false) };
const ALL: NicFeatures = NicFeatures {
    driver: String::new(),
    segments_tunnels: true,
    segments_tcp: true,
    puts_together: true,
    takes_tags_off: false,
};

fn choose(local_ip: IpAddr, nic: NicFeatures, helper: RoomHelper) -> Superpackets {
    Superpackets::choose(local_ip, Some(&Ok(nic)), helper)
}

#[test]
fn a_nic_that_segments_tunnels_is_given_superpackets_by_the_fast_lane() {
    let superpackets = choose(V4, ALL, GOOD);
    assert_eq!(superpackets.sent.lane, Lane::Fast);
    assert!(superpackets.sent.reason.contains("the NIC cuts them"), "{superpackets:?}");
}

#[test]
fn a_nic_that_does_not_is_given_them_by_the_vxlan_device_where_that_adds_checksums() {
    let nic = NicFeatures { segments_tunnels: false, ..ALL };
    for (local_ip, lane) in [(V4, Lane::Kernel), (V6, Lane::Fast)] {
        let superpackets = choose(local_ip, nic.clone(), GOOD);
        assert_eq!(superpackets.sent.lane, lane);
        assert!(superpackets.sent.reason.contains("tx-udp_tnl-segmentation is off"), "{superpackets:?}");
    }
}

#[test]
fn segmentation_that_is_off_altogether_is_no_reason_to_change_the_lane() {
    let superpackets = choose(V4, NicFeatures { segments_tcp: false, ..ALL }, GOOD);
    assert_eq!(superpackets.sent.lane, Lane::Fast);
    assert!(superpackets.sent.reason.contains("tx-tcp-segmentation is off"), "{superpackets:?}");
}

#[test]
fn a_nic_that_says_nothing_changes_no_lane_and_the_reason_says_so() {
    let superpackets = Superpackets::choose(V4, Some(&Err("Operation not supported".to_owned())), GOOD);
    assert_eq!(superpackets.sent.lane, Lane::Fast);
    assert!(superpackets.sent.reason.contains("not known (Operation not supported)"), "{superpackets:?}");
}

#[test]
fn what_arrives_names_what_the_kernel_lacks_or_that_nothing_is_put_together() {
    for (strips_tunnels, part) in [
        (Some(false), "this kernel has no BPF_F_ADJ_ROOM_DECAP_L4_UDP"),
        (Some(true), "does not use"),
        (None, "is not known"),
    ] {
        let received = choose(V4, ALL, RoomHelper { strips_tunnels, ..GOOD }).received;
        assert!(received.lane == Lane::Kernel && received.reason.contains(part), "{received:?}");
    }
    let received = choose(V4, NicFeatures { puts_together: false, ..ALL }, GOOD).received;
    assert!(received.reason.contains("rx-gro is off"), "{received:?}");
}

fn any_nic() -> impl Strategy<Value = Option<Result<NicFeatures, String>>> {
    let features = any::<[bool; 3]>().prop_map(|[segments_tunnels, segments_tcp, puts_together]| {
        Ok(NicFeatures { segments_tunnels, segments_tcp, puts_together, ..ALL })
    });
    prop_oneof![Just(None), Just(Some(Err("no such device".to_owned()))), features.prop_map(Some)]
}

proptest! {
    #[test]
    fn a_helper_that_makes_no_room_gets_no_superpackets(nic in any_nic(), v4: bool, strips in any::<Option<bool>>()) {
        let helper = RoomHelper { makes_room: Some(false), strips_tunnels: strips };
        let superpackets = Superpackets::choose(if v4 { V4 } else { V6 }, nic.as_ref(), helper);
        prop_assert_eq!(superpackets.sent.lane, Lane::Kernel);
    }

    #[test]
    fn what_is_not_known_of_a_nic_decides_nothing(v4: bool, keeps in prop_oneof![Just(None), Just(Some(true))]) {
        let helper = RoomHelper { makes_room: keeps, strips_tunnels: None };
        for nic in [None, Some(Err(String::new()))] {
            let superpackets = Superpackets::choose(if v4 { V4 } else { V6 }, nic.as_ref(), helper);
            prop_assert_eq!(superpackets.sent.lane, Lane::Fast);
        }
    }

    #[test]
    fn no_superpacket_that_arrives_is_the_fast_lanes(nic in any_nic(), keeps: Option<bool>, strips: Option<bool>) {
        let helper = RoomHelper { makes_room: keeps, strips_tunnels: strips };
        prop_assert_eq!(Superpackets::choose(V4, nic.as_ref(), helper).received.lane, Lane::Kernel);
    }
}
