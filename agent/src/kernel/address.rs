//! Addresses of this host.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage, AddressScope},
};

use super::{Kernel, KernelError};

impl Kernel {
    /// The addresses that other hosts can see, by interface.
    pub(super) fn list_addresses(&self) -> Result<BTreeMap<u32, BTreeSet<IpAddr>>, KernelError> {
        let mut addresses: BTreeMap<u32, BTreeSet<IpAddr>> = BTreeMap::new();
        for message in self.list_address_messages()? {
            if let Some(address) = address(&message) {
                addresses.entry(message.header.index).or_default().insert(address);
            }
        }
        Ok(addresses)
    }

    /// As `list_addresses`, with everything that the kernel says about them.
    pub(super) fn list_address_messages(&self) -> Result<Vec<AddressMessage>, KernelError> {
        let mut messages = self.list_all_address_messages()?;
        messages.retain(|message| message.header.scope == AddressScope::Universe);
        Ok(messages)
    }

    /// The addresses of every scope.
    pub(super) fn list_all_address_messages(&self) -> Result<Vec<AddressMessage>, KernelError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let messages = self.list(request, |answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => Some(message),
            _ => None,
        });
        messages.map_err(KernelError::list("addresses"))
    }
}

/// The interface's own address: on point-to-point links "address" is the peer's and "local" the own one.
pub(super) fn address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(local) => Some(*local),
        _ => None,
    });
    let plain = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(plain) => Some(*plain),
        _ => None,
    });
    local.or(plain)
}
