//! The guard: what keeps a tap closed until its filters are in force, also when nobody is there to attach them.
//!
//! A table of nf_tables' bridge family, `overlane`, drops every frame from and to a device that is called like one of Neutron's
//! taps and is not in the set `released`. It stays when the agent ends. Taps are in the set by interface index, so that one
//! that is made anew under the same name begins closed.

use std::{collections::BTreeSet, io};

use super::{
    Kernel, KernelError,
    netfilter::{Attributes, NFPROTO_BRIDGE, find, values},
    nftables::{APPEND, CREATE, Nftables, Request},
};

pub(super) const TABLE: &str = "overlane";
const RELEASED: &str = "released";
/// The chains: hook (`enum nf_br_hook`: NF_BR_PRE_ROUTING, NF_BR_POST_ROUTING) and the keys of the device that they look at
/// (NFT_META_IIFNAME and NFT_META_IIF, or NFT_META_OIFNAME and NFT_META_OIF).
const CHAINS: [(&str, u32, u32, u32); 2] = [("from_tap", 0, 6, 4), ("to_tap", 4, 7, 5)];
/// Before whatever else looks at bridged frames; the bridge's own hooks of netfilter begin at -300.
const PRIORITY: i32 = -400;

/// What of a device name counts, and what it must be: `tap`, and a dash behind the eight digits that a UUID begins with.
const NAME_MASK: [u8; IFNAMSIZ] = [255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 255, 0];
const NAME: [u8; IFNAMSIZ] = *b"tap\0\0\0\0\0\0\0\0-\0\0\0\0";
const IFNAMSIZ: usize = 16;

/// nft's number for "index of an interface" (`TYPE_IFINDEX` in `include/datatype.h`), so that it can list the set.
const TYPE_IFINDEX: u32 = 20;
/// What nft keeps with a set: its keys are in host byte order (`NFTNL_UDATA_SET_KEYBYTEORDER`, four bytes, `1`).
const SET_USERDATA: [u8; 6] = [0, 4, 1, 0, 0, 0];

impl Kernel {
    /// The taps that the guard lets through, by interface index; `None` where there is no guard.
    pub(super) fn list_released(&self) -> Result<Option<BTreeSet<u32>>, KernelError> {
        match released() {
            Ok(released) => Ok(Some(released)),
            // Not there, or a kernel without nf_tables: no guard either way.
            Err(error) if matches!(error.raw_os_error(), Some(ENOENT | EOPNOTSUPP | EPROTONOSUPPORT | EINVAL)) => {
                Ok(None)
            }
            Err(error) => Err(KernelError::list("the guard's taps")(error)),
        }
    }

    /// Makes the guard, or makes it anew, with `released` taps.
    pub(super) fn create_guard(&self, released: &BTreeSet<u32>) -> Result<(), KernelError> {
        transact(&creation(released))
            .map_err(KernelError::request("making", "the guard of closed taps (nf_tables, family bridge)"))
    }

    /// Lets a tap through.
    pub(super) fn release(&self, ifindex: u32, name: &str) -> Result<(), KernelError> {
        let result = transact(&[(Request::NewElement, CREATE, elements([ifindex]))]);
        result.map_err(KernelError::request("releasing", name))
    }

    /// Closes a tap, or forgets one that is gone.
    pub(super) fn close(&self, ifindex: u32, name: &str) -> Result<(), KernelError> {
        let result = transact(&[(Request::DeleteElement, 0, elements([ifindex]))]);
        super::error::unless(io::ErrorKind::NotFound, result).map_err(KernelError::request("closing", name))
    }

    /// Takes the guard away: every tap is open.
    pub(super) fn remove_guard(&self) -> Result<(), KernelError> {
        let result = transact(&[(Request::DeleteTable, 0, table(1))]);
        super::error::unless(io::ErrorKind::NotFound, result).map_err(KernelError::request("removing", "the guard"))
    }
}

const ENOENT: i32 = nix::errno::Errno::ENOENT as i32;
const EOPNOTSUPP: i32 = nix::errno::Errno::EOPNOTSUPP as i32;
const EPROTONOSUPPORT: i32 = nix::errno::Errno::EPROTONOSUPPORT as i32;
const EINVAL: i32 = nix::errno::Errno::EINVAL as i32;

fn transact(requests: &[(Request, u16, Attributes)]) -> io::Result<()> {
    Nftables::connect(NFPROTO_BRIDGE)?.transact(requests)
}

fn released() -> io::Result<BTreeSet<u32>> {
    let nftables = Nftables::connect(NFPROTO_BRIDGE)?;
    // A table that somebody has taken rules out of guards nothing.
    let rules = nftables.list(Request::GetRule, &table(1))?;
    if rules.len() != CHAINS.len() {
        return Err(io::Error::from_raw_os_error(ENOENT));
    }
    let answers = nftables.list(Request::GetElement, &table(1).text(2, RELEASED))?;
    let key = |element: &[u8]| {
        let value = find(find(element, 1)?, 1)?;
        Some(u32::from_ne_bytes(*value.first_chunk()?))
    };
    let elements = answers.iter().filter_map(|answer| find(answer, 3)).flat_map(values);
    Ok(elements.filter_map(key).collect())
}

/// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and the like are all 1.
fn table(kind: u16) -> Attributes {
    Attributes::default().text(kind, TABLE)
}

fn elements(ifindices: impl IntoIterator<Item = u32>) -> Attributes {
    let element = |list: Attributes, ifindex: u32| {
        // NFTA_SET_ELEM_KEY around NFTA_DATA_VALUE.
        let value = Attributes::default().bytes(1, &ifindex.to_ne_bytes());
        list.nested(1, &Attributes::default().nested(1, &value))
    };
    let list = ifindices.into_iter().fold(Attributes::default(), element);
    table(1).text(2, RELEASED).nested(3, &list)
}

fn creation(released: &BTreeSet<u32>) -> Vec<(Request, u16, Attributes)> {
    // NFTA_SET_NAME, KEY_TYPE, KEY_LEN, ID, USERDATA.
    let set = table(1).text(2, RELEASED).number(4, TYPE_IFINDEX).number(5, 4).number(10, 1).bytes(13, &SET_USERDATA);
    // Whatever is left of an earlier one goes in the same step.
    let mut requests = vec![
        (Request::NewTable, CREATE, table(1)),
        (Request::DeleteTable, 0, table(1)),
        (Request::NewTable, CREATE, table(1)),
        (Request::NewSet, CREATE, set),
    ];
    for (chain, hook, name_key, index_key) in CHAINS {
        let hook = Attributes::default().number(1, hook).number(2, PRIORITY.cast_unsigned());
        let attributes = table(1).text(3, chain).nested(4, &hook).text(7, "filter");
        requests.push((Request::NewChain, CREATE, attributes));
        requests.push((
            Request::NewRule,
            CREATE | APPEND,
            table(1).text(2, chain).nested(4, &rule(name_key, index_key)),
        ));
    }
    if !released.is_empty() {
        requests.push((Request::NewElement, CREATE, elements(released.iter().copied())));
    }
    requests
}

/// `meta iifname & mask == name, meta iif != @released, counter, drop`.
fn rule(name_key: u32, index_key: u32) -> Attributes {
    const REGISTER: u32 = 1;
    const VERDICT_REGISTER: u32 = 0;
    const DROP: u32 = 0;
    const LOOKUP_INVERTED: u32 = 1;
    let data = |bytes: &[u8]| Attributes::default().bytes(1, bytes);
    let load = |key| Attributes::default().number(1, REGISTER).number(2, key);
    let length = IFNAMSIZ as u32;
    let mask = Attributes::default().number(1, REGISTER).number(2, REGISTER).number(3, length);
    let mask = mask.nested(4, &data(&NAME_MASK)).nested(5, &data(&[0; IFNAMSIZ]));
    let compare = Attributes::default().number(1, REGISTER).number(2, 0).nested(3, &data(&NAME));
    let lookup = Attributes::default().text(1, RELEASED).number(2, REGISTER).number(4, 1).number(5, LOOKUP_INVERTED);
    let verdict = Attributes::default().nested(2, &Attributes::default().number(1, DROP));
    let drop = Attributes::default().number(1, VERDICT_REGISTER).nested(2, &verdict);
    let expressions = [
        ("meta", load(name_key)),
        ("bitwise", mask),
        ("cmp", compare),
        ("meta", load(index_key)),
        ("lookup", lookup),
        ("counter", Attributes::default()),
        ("immediate", drop),
    ];
    expressions.iter().fold(Attributes::default(), |list, (name, data)| {
        list.nested(1, &Attributes::default().text(1, name).nested(2, data))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_neutrons_taps_are_guarded() {
        let is_guarded = |name: &str| {
            let mut bytes = [0; IFNAMSIZ];
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            bytes.iter().zip(NAME_MASK).map(|(byte, mask)| byte & mask).eq(NAME)
        };
        assert!(is_guarded("tapb1eaae00-e5"));
        for name in ["tap0", "tap-openvpn", "vnet3", "eth0", "tapb1eaae00-e5x", "qvob1eaae00-e5"] {
            assert!(!is_guarded(name), "{name}");
        }
    }
}
