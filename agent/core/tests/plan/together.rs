//! Which steps of a plan the kernel can be told of together.

use overlane_abi as abi;
use overlane_core::{
    action::{DatapathAction, MapEntry, MapKey, SecurityEntry, SecurityKey},
    model::Mac,
    observed::AllowedSource,
};

fn fdb(number: u8) -> abi::FdbKey {
    abi::FdbKey::new(1, [2, 0, 0, 0, 0, number])
}

fn put_fdb(number: u8) -> DatapathAction {
    DatapathAction::Put(MapEntry::Fdb(fdb(number), abi::FdbEntry::local(7)))
}

fn put_member(net: &str) -> DatapathAction {
    DatapathAction::Put(SecurityEntry::Member(1, net.parse().expect("valid"), 0).into())
}

fn put_neighbor() -> DatapathAction {
    let key = abi::NeighborKey { network: 1, address: abi::Address::from_v4([10, 0, 0, 1]) };
    DatapathAction::Put(MapEntry::Neighbor(key, abi::Neighbor { mac: [2; 6], flags: 0 }))
}

fn attach(ifindex: u32) -> DatapathAction {
    DatapathAction::Attach { hook: abi::Hook::FromPort, ifindex }
}

/// How many steps go together, in order.
fn groups(steps: &[DatapathAction]) -> Vec<usize> {
    steps.chunk_by(DatapathAction::joins).map(<[_]>::len).collect()
}

#[test]
fn entries_of_one_map_go_together() {
    assert_eq!(groups(&[put_fdb(1), put_fdb(2), put_fdb(3)]), [3]);
    assert_eq!(
        groups(&[DatapathAction::Delete(MapKey::Fdb(fdb(1))), DatapathAction::Delete(MapKey::Fdb(fdb(2)))]),
        [2]
    );
    // Each of these has a map for addresses and one for prefixes.
    assert_eq!(groups(&[put_member("10.0.0.1/32"), put_member("10.0.0.0/24"), put_member("2001:db8::/32")]), [3]);
}

#[test]
fn the_order_of_maps_is_kept() {
    assert_eq!(groups(&[put_fdb(1), put_neighbor(), put_fdb(2)]), [1, 1, 1]);
    let generation = DatapathAction::Put(SecurityEntry::Generation(2).into());
    let source = AllowedSource { mac: Mac([2; 6]), net: None };
    let gone = DatapathAction::Delete(SecurityKey::Source(7, source).into());
    assert_eq!(groups(&[put_member("10.0.0.1/32"), generation, gone]), [1, 1, 1]);
}

#[test]
fn what_is_put_does_not_go_with_what_is_deleted() {
    assert_eq!(groups(&[put_fdb(1), DatapathAction::Delete(MapKey::Fdb(fdb(1))), put_fdb(1)]), [1, 1, 1]);
}

#[test]
fn attachments_are_made_one_by_one() {
    assert_eq!(groups(&[attach(7), attach(8), put_fdb(1)]), [1, 1, 1]);
}
