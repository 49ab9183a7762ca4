//! The NIC or bridge behind a physical network.

use super::{NetworkPlan, Planned, Unusable};
use crate::{
    action::KernelAction,
    config::{Config, PhysicalDevice},
    observed::{Link, LinkKind},
};

/// Whether a physical network is mapped to the interface.
pub(super) fn is_mapped_interface(config: &Config, interface: &str) -> bool {
    let mut networks = config.physical_networks.values();
    networks.any(|network| network.interface.as_deref() == Some(interface))
}

impl<'a> NetworkPlan<'a, '_> {
    /// The bridge of a network on `physical_network`, and the NIC in it if it is Overlane's to put there.
    pub(super) fn physical(
        &mut self,
        physical_network: &str,
    ) -> Result<(Option<&'a Link>, Option<&'a Link>), Unusable> {
        match self.config.untagged_device(physical_network) {
            None => Err(Unusable),
            Some(PhysicalDevice::Bridge(name)) => Ok((self.mapped_bridge(&name)?, None)),
            Some(PhysicalDevice::Interface(name)) => {
                let nic = self.nic(&name)?;
                let bridge = self.own_bridge()?;
                if let Some(bridge) = bridge {
                    self.move_into_bridge(nic, bridge)?;
                }
                Ok((bridge, Some(nic)))
            }
        }
    }

    fn mapped_bridge(&mut self, name: &str) -> Planned<'a> {
        match self.kernel.link_named(name) {
            Some(link) if link.kind == LinkKind::Bridge => {
                self.set_up(link);
                Ok(Some(link))
            }
            Some(link) => {
                let kind = super::kind_name(link);
                Err(self.unusable(format!("{name}, which bridge_mappings names, is a {kind}, not a bridge")))
            }
            None => Err(self.unusable(format!("there is no bridge {name}, which bridge_mappings names"))),
        }
    }

    pub(super) fn nic(&mut self, name: &str) -> Result<&'a Link, Unusable> {
        let Some(nic) = self.kernel.link_named(name) else {
            let message = format!("there is no interface {name}, which physical_interface_mappings names");
            return Err(self.unusable(message));
        };
        if !nic.kind.is_plain() || nic.mac.is_none() {
            let kind = super::kind_name(nic);
            let message = format!("{name}, which physical_interface_mappings names, is a {kind}: it must be a NIC");
            return Err(self.unusable(message));
        }
        self.set_up(nic);
        Ok(nic)
    }

    /// A NIC that is part of a bridge takes no packets for its own addresses: they must be the bridge's.
    fn move_into_bridge(&mut self, nic: &Link, bridge: &Link) -> Result<(), Unusable> {
        if let Some(master) = nic.master.filter(|master| *master != bridge.ifindex) {
            let message = self.belongs_elsewhere(nic, master, bridge);
            return Err(self.unusable(message));
        }
        let has_addresses = self.kernel.addresses.contains_key(&nic.ifindex);
        if nic.master.is_none() || has_addresses {
            self.plan.action(KernelAction::MoveIntoBridge {
                ifindex: nic.ifindex,
                name: nic.name.clone(),
                bridge: bridge.ifindex,
                bridge_name: bridge.name.clone(),
            });
        }
        Ok(())
    }
}
