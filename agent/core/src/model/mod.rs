//! Values that cannot be wrong: checked once, where they are made.

mod ids;
mod mac;
mod segment;
mod vid;
mod vni;

pub use ids::{
    AddressGroupId, FloatingIpId, InstanceId, NetworkId, PortId, QosPolicyId, RouterId, SecurityGroupId, SubnetId,
    vlan_name, vxlan_name,
};
pub use mac::{Mac, ParseMacError};
pub use segment::Segment;
pub use vid::{Vid, VidOutOfRange};
pub use vni::{Vni, VniOutOfRange};
