//! The `<nic>.<vid>` device of a VLAN network: one of the kernel's 8021q module or, where there is none, an ifb that the
//! programs tag for. It is a port of the network's bridge; the NIC itself stays where it is.

use super::{NetworkPlan, Planned, Unusable};
use crate::{
    action::{KernelAction, Tagging, VlanSpec},
    config::{Config, FastPath},
    desired::Network,
    model::{NetworkId, Vid, vlan_name},
    observed::{DatapathState, Link, LinkKind, Vlan},
    plan::Subject,
};

/// What carries a VLAN network.
pub(super) struct Carrier<'a> {
    pub(super) nic: &'a Link,
    pub(super) device: Option<&'a Link>,
    pub(super) mtu: u32,
}

impl<'a> NetworkPlan<'a, '_> {
    pub(super) fn vlan(&mut self, physical_network: &str, vid: Vid) -> Result<Carrier<'a>, Unusable> {
        let nic = self.nic(self.config.vlan_interface(physical_network).ok_or(Unusable)?)?;
        let mtu = self.vlan_mtu(nic);
        let name = vlan_name(&nic.name, vid);
        let on_nic = |link: &&Link| matches!(link.kind, LinkKind::Vlan(found) if found == vlan_on(nic, vid));
        let other = self.kernel.links.values().find(on_nic);
        // A NIC that has been renamed keeps its VLAN devices, under their old names.
        let bridge = self.kernel.link_named(&self.id.bridge_name());
        let renamed = other.filter(|link| link.master.is_some() && link.master == bridge.map(|bridge| bridge.ifindex));
        let link = self.kernel.link_named(&name).or(renamed);
        let owner = self.owner(link);
        if owner != self.id {
            return self.taken_by(owner, link, vid, nic).map(|()| Carrier { nic, device: None, mtu });
        }
        let device = match (link, other) {
            (Some(link), _) => Some(self.existing_vlan_device(link, nic, vid, mtu)?),
            (None, Some(other)) => {
                let message = format!("VID {vid} is used on {} by {}: rename it to {name}", nic.name, other.name);
                return Err(self.unusable(message));
            }
            (None, None) => self.new_vlan_device(name, nic, vid, mtu)?,
        };
        Ok(Carrier { nic, device, mtu })
    }

    /// A VLAN has no room for more than its NIC.
    fn vlan_mtu(&mut self, nic: &Link) -> u32 {
        let wanted = self.network.mtu.map_or(nic.mtu, u32::from);
        if wanted > nic.mtu {
            let message = format!(
                "{0} has MTU {1}, less than the network's {wanted}: packets of more than {1} bytes are lost until someone \
                 does: ip link set {0} mtu {wanted}",
                nic.name, nic.mtu
            );
            self.plan.obstacle(Subject::Network(self.id), message);
        }
        wanted.min(nic.mtu)
    }

    /// The network that a VLAN belongs to: the one that its device was made for, else the first of those that want it.
    fn owner(&self, link: Option<&Link>) -> NetworkId {
        let wants_it = |(_, other): &(&NetworkId, &Network)| other.segment == self.network.segment;
        let first = self.desired.networks.iter().find(wants_it).map(|(id, _)| *id);
        link.and_then(|link| link.made_for).or(first).unwrap_or(self.id)
    }

    /// What a network has left behind, having gone or changed its VID, goes when another one needs it.
    fn taken_by(&mut self, owner: NetworkId, link: Option<&Link>, vid: Vid, nic: &Link) -> Result<(), Unusable> {
        let still_wants_it =
            self.desired.networks.get(&owner).is_some_and(|owner| owner.segment == self.network.segment);
        match link.filter(|_| self.desired.complete && !still_wants_it) {
            Some(link) => {
                super::delete(self.plan, link);
                Ok(())
            }
            None => Err(self.unusable(format!("VID {vid} on {} belongs to network {owner} already", nic.name))),
        }
    }

    fn existing_vlan_device(&mut self, link: &'a Link, nic: &Link, vid: Vid, mtu: u32) -> Result<&'a Link, Unusable> {
        match &link.kind {
            LinkKind::Vlan(found) => {
                if let Some(message) = self.vlan_misfit(link, *found, nic, vid) {
                    return Err(self.unusable(message));
                }
            }
            LinkKind::Other(kind) if kind == LinkKind::IFB && link.made_for.is_some() => {
                self.require_programs(&format!("{} sends and receives by eBPF", link.name))?;
                self.take_all_frames(nic);
            }
            _ => return Err(self.name_taken(link, "VLAN device")),
        }
        self.set_up(link);
        self.set_mtu(link, Some(mtu));
        Ok(link)
    }

    fn new_vlan_device(&mut self, name: String, nic: &Link, vid: Vid, mtu: u32) -> Planned<'a> {
        let tagging = if self.kernel.has_8021q { Tagging::Kernel } else { Tagging::Programs };
        if tagging == Tagging::Programs {
            self.require_programs("the kernel has no 8021q module, so that VLANs need eBPF")?;
            self.take_all_frames(nic);
        }
        let spec = VlanSpec { nic: nic.ifindex, mac: nic.mac, vid, mtu, tagging };
        self.plan.action(KernelAction::CreateVlan { name, network: self.id, spec });
        Ok(None)
    }

    fn require_programs(&mut self, need: &str) -> Result<(), Unusable> {
        match why_no_programs(self.datapath, self.config) {
            None => Ok(()),
            Some(lack) => Err(self.unusable(format!("{need}, but {lack}"))),
        }
    }

    /// Frames for the ports of a VLAN are not for the NIC's own MAC address. A bridge tells the NIC below a device of the
    /// 8021q module; below other devices nobody does.
    fn take_all_frames(&mut self, nic: &Link) {
        if !nic.promiscuous {
            self.plan.action(KernelAction::SetPromiscuous { ifindex: nic.ifindex, name: nic.name.clone() });
        }
    }

    /// Why an existing device of the 8021q module cannot be used.
    fn vlan_misfit(&self, link: &Link, found: Vlan, nic: &Link, vid: Vid) -> Option<String> {
        let name = &link.name;
        let what = if found.is_8021ad {
            "has tags of a provider's network (802.1ad)".to_owned()
        } else if found.vid != vid {
            format!("has VID {}", found.vid)
        } else if found.nic != Some(nic.ifindex) {
            let on = found.nic.and_then(|ifindex| self.kernel.links.get(&ifindex));
            format!("is on {}", on.map_or("an interface of another namespace", |on| on.name.as_str()))
        } else {
            return None;
        };
        Some(format!("{name} {what}: rename it, the name is needed for VID {vid} on {}", nic.name))
    }
}

/// Why programs cannot tag, if they cannot.
pub(super) fn why_no_programs(datapath: Option<&DatapathState>, config: &Config) -> Option<&'static str> {
    match config.fast_path {
        _ if datapath.is_some() => None,
        FastPath::Off => Some("[overlane] fast_path is off"),
        FastPath::Auto => Some("the fast path is unavailable: see the agent's log"),
    }
}

pub(super) fn vlan_on(nic: &Link, vid: Vid) -> Vlan {
    Vlan { nic: Some(nic.ifindex), vid, is_8021ad: false }
}
