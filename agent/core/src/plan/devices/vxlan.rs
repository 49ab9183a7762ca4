//! The vxlan device of a VXLAN network.

use std::net::IpAddr;

use super::{NetworkPlan, Planned, Unusable};
use crate::{
    action::{KernelAction, VxlanSpec},
    config::{Dscp, VxlanConfig},
    model::{Vni, vxlan_name},
    observed::{Link, LinkKind, Vxlan},
};

/// Bytes that the outer headers add to an IP packet of the overlay.
const OVERHEAD_V4: u32 = 50;
const OVERHEAD_V6: u32 = 70;

/// What the kernel calls "copy the inner packet's" when it is told a TOS (`ip link add … tos inherit`).
const TOS_INHERIT: u8 = 1;

/// The largest IP packet of the overlay that the underlay has room for.
pub(super) fn room(vxlan: &VxlanConfig, underlay: &Link) -> u32 {
    let overhead = if vxlan.local_ip.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    underlay.mtu.saturating_sub(overhead)
}

impl<'a> NetworkPlan<'a, '_> {
    /// The settings of tunnels, and the link that carries them if its address is there.
    pub(super) fn underlay(&self) -> Result<(&'a VxlanConfig, Option<&'a Link>), Unusable> {
        let vxlan = self.config.vxlan.as_ref().ok_or(Unusable)?;
        Ok((vxlan, self.kernel.link_with_address(vxlan.local_ip)))
    }

    pub(super) fn vxlan_device(
        &mut self,
        vni: Vni,
        vxlan: &VxlanConfig,
        underlay: Option<&Link>,
        mtu: Option<u32>,
    ) -> Planned<'a> {
        let name = vxlan_name(vni);
        let Some(link) = self.kernel.link_named(&name) else {
            self.create_vxlan(name, vni, vxlan, underlay, mtu)?;
            return Ok(None);
        };
        let LinkKind::Vxlan(found) = &link.kind else {
            return Err(self.name_taken(link, "vxlan device"));
        };
        let group = self.config.multicast.as_ref().map(|groups| groups.group(vni));
        if let Some(message) = misfit(&name, vni, found, vxlan, group) {
            return Err(self.unusable(message));
        }
        self.set_up(link);
        self.set_mtu(link, mtu);
        // The tunnel endpoint's address has moved, to a bridge for instance, and routes with it.
        if let Some(underlay) = underlay.filter(|underlay| found.underlay.is_some_and(|old| old != underlay.ifindex)) {
            self.plan.action(KernelAction::SetVxlanUnderlay {
                ifindex: link.ifindex,
                name,
                underlay: underlay.ifindex,
                underlay_name: underlay.name.clone(),
            });
        }
        Ok(Some(link))
    }

    fn create_vxlan(
        &mut self,
        name: String,
        vni: Vni,
        vxlan: &VxlanConfig,
        underlay: Option<&Link>,
        mtu: Option<u32>,
    ) -> Result<(), Unusable> {
        let same_vni = |link: &&Link| matches!(&link.kind, LinkKind::Vxlan(other) if other.vni == vni);
        if let Some(other) = self.kernel.links.values().find(same_vni) {
            let message = format!("VNI {vni} is used by {}: delete it, or rename it to {name}", other.name);
            return Err(self.unusable(message));
        }
        // Without the underlay, which is an obstacle of the host, there is nothing to make the device on.
        if let (Some(underlay), Some(mtu)) = (underlay, mtu) {
            let spec = VxlanSpec {
                vni,
                local: vxlan.local_ip,
                group: self.config.multicast.as_ref().map(|groups| groups.group(vni)),
                underlay: underlay.ifindex,
                port: vxlan.udp_dstport,
                source_ports: vxlan.source_ports,
                ttl: vxlan.ttl,
                tos: match vxlan.dscp {
                    Dscp::Inherit => Some(TOS_INHERIT),
                    Dscp::Fixed(0) => None,
                    Dscp::Fixed(dscp) => Some(dscp << 2),
                },
                mtu,
            };
            self.plan.action(KernelAction::CreateVxlan { name, network: self.id, spec });
        }
        Ok(())
    }
}

/// Why an existing device cannot be used.
fn misfit(name: &str, vni: Vni, found: &Vxlan, vxlan: &VxlanConfig, group: Option<IpAddr>) -> Option<String> {
    if found.vni != vni {
        return Some(format!("{name} has VNI {}: rename it, the name is needed", found.vni));
    }
    if found.port != vxlan.udp_dstport {
        return Some(format!(
            "{name} uses UDP port {}, the configuration says {}: set [vxlan] udp_dstport = {0} on every host",
            found.port, vxlan.udp_dstport
        ));
    }
    if let Some(group) = group.filter(|group| found.group != Some(*group)) {
        let has = found.group.map_or("no multicast group".to_owned(), |group| format!("group {group}"));
        return Some(format!("{name} has {has}, the configuration says {group}: delete it, and it is made anew"));
    }
    if matches!(vxlan.local_ip, IpAddr::V6(_)) && !found.udp6_zero_checksum_rx {
        return Some(format!(
            "{name} refuses UDP over IPv6 without a checksum, which the other hosts send: delete it, and it is made anew"
        ));
    }
    None
}
