//! What security groups cost, next to the Linux bridge agent's iptables and next to nothing at all.

mod changes;
mod connections;
mod flood;
mod rate;
mod sockets;

pub(crate) use changes::measure as measure_changes;
pub(crate) use connections::measure as measure_connections;
pub(crate) use flood::measure as measure_flood;
pub(crate) use rate::measure as measure_rate;
pub(crate) use sockets::measure as measure_sockets;
