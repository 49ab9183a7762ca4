//! Why taps are not as they should be, as far as the server is the reason.

use std::collections::BTreeMap;

use super::{Controller, KnownTap, News, due::Kind};
use crate::model::PortId;

impl Controller {
    /// The server cannot tell what a tap is: it stays as it was, a new one closed.
    pub(super) fn mark(&mut self, tap: &str, reason: &str) {
        if let Some(known) = self.taps.get_mut(tap)
            && known.reason.as_deref() != Some(reason)
        {
            known.reason = Some(reason.to_owned());
            self.news.push(News::NotHere { tap: tap.to_owned(), reason: reason.to_owned() });
        }
    }

    /// Why taps are not connected, or not as they should be, or not known to be, as far as the server is the reason.
    pub fn reasons(&self) -> BTreeMap<&str, String> {
        self.taps.iter().filter_map(|(name, known)| Some((name.as_str(), self.reason(known)?))).collect()
    }

    fn reason(&self, known: &KnownTap) -> Option<String> {
        if known.reason.is_some() {
            return known.reason.clone();
        }
        let port = known.port?;
        let of_policy = self.cloud.trouble_with_policy(port).map(str::to_owned);
        of_policy
            .or_else(|| self.trouble_with_network(port))
            .or_else(|| {
                let reason = self.untold.reason(&(port, true))?;
                Some(format!("the server could not be told that its port is up: {reason}"))
            })
            .or_else(|| self.trouble_with_trunk(port))
    }

    fn trouble_with_network(&self, port: PortId) -> Option<String> {
        let network = self.cloud.ports.get(&port)?.network;
        let reason = self.retry.objects.reason(&(Kind::Networks, network.0))?;
        let follows = match self.cloud.networks.get(&network) {
            Some(known) if known.is_known => "stays as it was when the server last told it",
            _ => "is not known yet: the port stays as it was, a new one closed",
        };
        Some(format!("its network {network} {follows}; {reason}"))
    }

    fn trouble_with_trunk(&self, port: PortId) -> Option<String> {
        let unread = |kind, id| self.retry.objects.reason(&(kind, id));
        if let Some(reason) = unread(Kind::Trunks, port.0) {
            return Some(format!("the server was asked in vain whether it has a trunk: {reason}"));
        }
        let (trunk, mut sub_ports) = self.trunks.of(port)?;
        let unbound = sub_ports.find_map(|sub_port| Some((sub_port, unread(Kind::SubPorts, sub_port.0)?)));
        if let Some((sub_port, reason)) = unbound {
            return Some(format!("the server was asked in vain to bind its subport {sub_port} to this host: {reason}"));
        }
        let reason = unread(Kind::TrunkStatus, trunk)?;
        Some(format!("the server could not be told how its trunk {trunk} is: {reason}"))
    }
}
