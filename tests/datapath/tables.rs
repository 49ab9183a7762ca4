//! Maps with very many entries, as the agent fills and reads them: many entries by one system call.

use overlane::datapath::{Results, Table};
use overlane_abi::{Address, FdbEntry, FdbKey, Member, MemberKey, Port, limits, names};

use crate::harness::{
    Datapath, IFINDEX,
    tables::{Prefix, read, read_prefixes},
};

/// More than the agent reads at once.
const MANY: u32 = 5_000;

fn datapath() -> Datapath {
    Datapath::load("10.10.10.11".parse().expect("valid"))
}

fn machine(number: u32) -> (FdbKey, FdbEntry) {
    let [_, a, b, c] = number.to_be_bytes();
    (FdbKey::new(7, [0xfa, 0x16, 0x3e, a, b, c]), FdbEntry::local(number))
}

/// A network of 16 addresses.
fn member(number: u32) -> ((u32, MemberKey), Member) {
    let key = MemberKey { set: 1, address: Address::from_v4((number << 4).to_be_bytes()) };
    ((MemberKey::prefix_len(false, 28), key), Member { rule: number })
}

fn port(ifindex: u32, vni: u32) -> (u32, Port) {
    (ifindex, Port { network: 1, vni, mac: [0xfa, 0x16, 0x3e, 0, 0, 1], flags: 0, policy: 0, revision: 0, mtu: 1450 })
}

/// The places of steps that have failed, and why.
fn failures(results: Results) -> Vec<(usize, String)> {
    let failed = results.into_iter().enumerate().filter_map(|(place, result)| Some((place, result.err()?)));
    failed.map(|(place, error)| (place, format!("{:#}", anyhow::Error::from(error)))).collect()
}

#[test]
fn entries_that_are_put_at_once_all_arrive_and_are_read_once() {
    let mut table = datapath().take_table(names::FDB).expect("its types");
    let machines: Vec<(FdbKey, FdbEntry)> = (1..=MANY).map(machine).collect();
    assert_eq!(failures(table.put(machines.clone())), []);
    assert_eq!(read(&table), machines);
    table.clear().expect("they can be deleted");
    assert_eq!(read(&table), []);
}

#[test]
fn prefixes_are_put_read_and_deleted_at_once_as_well() {
    let members: Vec<_> = (1..=MANY).map(member).collect();
    let prefix = |((bits, key), _): &((u32, MemberKey), Member)| Prefix::new(*bits, *key);
    let mut table = datapath().take_table(names::MEMBER_PREFIXES).expect("its types");
    let results = table.put(members.iter().map(|entry| (prefix(entry), entry.1)));
    assert_eq!(failures(results), []);
    assert_eq!(read_prefixes(&table), members);
    let (gone, left) = members.split_at(members.len() / 2);
    assert!(table.delete(gone.iter().map(prefix)).iter().all(Result::is_ok), "they are there");
    assert_eq!(read_prefixes(&table), left);
}

#[test]
fn an_entry_that_does_not_fit_is_named_and_what_fits_is_there() {
    let mut table = datapath().take_table(names::PORTS).expect("its types");
    let room = u32::try_from(limits::PORTS_MAX).expect("few");
    assert_eq!(failures(table.put((1..room).map(|ifindex| port(ifindex, 1)))), []);
    // One more fits, and what is there already can always be replaced.
    let more = [port(1, 2), port(room, 2), port(room + 1, 2), port(2, 2), port(room + 2, 2), port(3, 2)];
    let full = format!("map {} is full", names::PORTS);
    let failures = failures(table.put(more));
    assert_eq!(failures.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [2, 4]);
    assert!(failures.iter().all(|(_, error)| error.starts_with(&full)), "{failures:?}");
    let expected: Vec<_> = (1..=room)
        .map(|ifindex| port(ifindex, if matches!(ifindex, 4..) && ifindex != room { 1 } else { 2 }))
        .collect();
    assert_eq!(read(&table), expected);
}

#[test]
fn what_is_gone_already_does_not_keep_other_entries_from_being_deleted() {
    let mut table = datapath().take_table(names::FDB).expect("its types");
    let machines = |numbers: std::ops::Range<u32>| numbers.map(machine);
    assert_eq!(failures(table.put(machines(0..100))), []);
    // Strangers before, between and behind.
    let keys = [200, 3, 4, 201, 202, 5, 99, 203].map(|number| machine(number).0);
    assert_eq!(failures(table.delete(keys)), []);
    let left: Vec<_> = machines(0..100).enumerate().filter(|(number, _)| !matches!(number, 3..=5 | 99)).collect();
    assert_eq!(read(&table), left.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>());
}

/// The kernel has no batches for maps of devices.
#[test]
fn a_map_without_batches_is_gone_through_entry_by_entry() {
    let mut table: Table<u32, [u32; 2]> = datapath().take_table(names::XDP_DEVICES).expect("its types");
    // An interface, and the file descriptor of no program.
    let device = |key: u32| (key, [IFINDEX, 0]);
    let mut entries: Vec<_> = (0..50).map(device).collect();
    entries[20].1 = [u32::MAX, 0];
    let failures = failures(table.put(entries));
    let [(20, error)] = failures.as_slice() else { panic!("{failures:?}") };
    assert!(error.starts_with(&format!("accessing map {}", names::XDP_DEVICES)), "{error}");
    let there = |key: &u32| *key != 20;
    assert_eq!(read(&table), (0..50).filter(there).map(device).collect::<Vec<_>>());
    assert!(table.delete([20, 0, 49]).iter().all(Result::is_ok), "gone already is success");
    assert_eq!(read(&table), (1..49).filter(there).map(device).collect::<Vec<_>>());
}

#[test]
fn a_map_of_other_types_is_not_taken() {
    let key = datapath().take_table::<u64, Port>(names::PORTS).expect_err("its keys are shorter");
    assert_eq!(key, "invalid key size 8, expected 4");
    let value = datapath().take_table::<u32, u32>(names::PORTS).expect_err("its values are longer");
    assert_eq!(value, format!("invalid value size 4, expected {}", size_of::<Port>()));
    datapath().take_table::<u32, u32>(names::GENERATION).expect_err("an array is no table");
}
