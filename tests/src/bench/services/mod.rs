//! What a network node's services cost: DHCP servers, and routers.

mod asking;
mod leases;

pub(crate) use leases::measure as measure_leases;
