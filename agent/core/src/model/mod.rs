//! Values that cannot be wrong: checked once, where they are made.

mod ids;
mod mac;
mod segment;
mod vni;

pub use ids::{AddressGroupId, NetworkId, PortId, SecurityGroupId, vxlan_name};
pub use mac::{Mac, ParseMacError};
pub use segment::Segment;
pub use vni::{Vni, VniOutOfRange};
