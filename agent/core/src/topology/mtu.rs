//! How large packets of a network are, where the file does not say it.

use super::{Network, Topology};
use crate::model::Segment;

/// What an Ethernet link has if nobody has said otherwise, in bytes.
const ETHERNET: u32 = 1500;
/// What VXLAN puts around an IP packet, in bytes: IP, UDP and VXLAN headers, and the inner Ethernet header (RFC 7348).
const VXLAN_OVER_IPV4: u32 = 20 + 8 + 8 + 14;
const VXLAN_OVER_IPV6: u32 = 40 + 8 + 8 + 14;

impl Topology {
    /// The MTU that the DHCP servers and routers of a network have, and tell, in bytes: what the file says, else what has room in
    /// an underlay or physical network of usual Ethernet links.
    pub fn mtu_of(&self, network: &Network) -> u32 {
        let is_ipv6 = self.hosts.iter().any(|host| host.local_ip.is_ipv6());
        let overhead = match &network.segment {
            Segment::Vxlan(_) if is_ipv6 => VXLAN_OVER_IPV6,
            Segment::Vxlan(_) => VXLAN_OVER_IPV4,
            _ => 0,
        };
        network.mtu.map_or(ETHERNET - overhead, u32::from)
    }
}
