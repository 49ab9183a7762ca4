//! The connection table, for people.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use aya::Pod;
use nix::time::{ClockId, clock_gettime};
use overlane_abi::{self as abi, FlowEnd, FlowKey4, FlowKey6, FlowState, names};

use super::{
    DatapathError,
    maps::{Opener, opener_of_pins},
    table::Table,
};

/// A flow that the programs remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Local network index.
    pub network: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// Who began it.
    pub from: Side,
    /// With whom.
    pub to: Side,
    /// How far it has come.
    pub state: FlowState,
    /// Whether the other side has answered.
    pub is_answered: bool,
    /// How long ago it began.
    pub age: Duration,
    /// How long it will be remembered unless another packet comes.
    pub remaining: Duration,
}

/// One side of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Its address.
    pub address: IpAddr,
    /// Its port; the identifier of ICMP echo on the side that asks; 0 for protocols without ports.
    pub port: u16,
    /// Who admitted it there, if that is a port of this host.
    pub end: FlowEnd,
}

/// Reads the pinned tables; flows whose time is over are left out.
pub(super) fn read(directory: &Path) -> Result<Vec<Flow>, DatapathError> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    let mut open = opener_of_pins(directory)?;
    let mut open = Opener::new(&mut open);
    let mut flows = Vec::new();
    for name in [names::CONNTRACK4, names::CONNTRACK_NEW4] {
        table(&open.table(name)?, |key: FlowKey4, value| {
            let addresses = key.addresses.map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
            flows.extend(flow(now, (key.zone, key.protocol, addresses, key.ports), &value));
        })?;
    }
    for name in [names::CONNTRACK6, names::CONNTRACK_NEW6] {
        table(&open.table(name)?, |key: FlowKey6, value| {
            let addresses = key.addresses.map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
            flows.extend(flow(now, (key.zone, key.protocol, addresses, key.ports), &value));
        })?;
    }
    flows.sort_by_key(|flow| {
        (flow.network, flow.protocol, flow.from.address, flow.from.port, flow.to.address, flow.to.port)
    });
    Ok(flows)
}

fn table<K: Pod>(map: &Table<K, abi::Flow>, mut add: impl FnMut(K, abi::Flow)) -> Result<(), DatapathError> {
    let flows: Vec<(K, abi::Flow)> = map.read()?;
    flows.into_iter().for_each(|(key, flow)| add(key, flow));
    Ok(())
}

fn flow(
    now: Duration,
    (network, protocol, addresses, ports): (u32, u8, [IpAddr; 2], [u16; 2]),
    value: &abi::Flow,
) -> Option<Flow> {
    let remaining = Duration::from_nanos(value.expires).checked_sub(now).filter(|remaining| !remaining.is_zero())?;
    let state = FlowState::ALL.into_iter().find(|state| *state as u8 == value.state)?;
    let (first, second) = if value.flags & abi::Flow::BEGUN_BY_SECOND == 0 { (0, 1) } else { (1, 0) };
    let side = |index: usize, end| Side { address: addresses[index], port: ports[index], end };
    Some(Flow {
        network,
        protocol,
        from: side(first, value.ends[0]),
        to: side(second, value.ends[1]),
        state,
        is_answered: value.flags & abi::Flow::ANSWERED != 0,
        age: now.saturating_sub(Duration::from_nanos(value.created)),
        remaining,
    })
}
