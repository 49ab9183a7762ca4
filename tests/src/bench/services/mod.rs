//! What a network node's services cost: DHCP servers, and routers.

mod asking;
mod leases;
mod routers;

pub(crate) use leases::measure as measure_leases;
pub(crate) use routers::{
    measure_cold as measure_routers, measure_failover, measure_floating_ip, measure_tcp as measure_router_tcp,
};
