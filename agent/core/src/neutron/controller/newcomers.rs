//! Taps that are new: what they are is read without side effects where that is possible.
//!
//! The Linux bridge agent asks for details, for which the server writes that the port is being built (`BUILD`), with all that follows
//! from a change of a port. Nobody waits for `BUILD`: Nova waits for a port that is not `ACTIVE` to become so. So details are asked for only where the port is `ACTIVE` already, as its tap was made
//! anew, and where the server tells no other way which port a tap belongs to.

use std::{collections::BTreeMap, time::Instant};

use super::Controller;
use crate::{model::PortId, neutron::messages::security::SecurityGroupInfo};

impl Controller {
    /// Asks everything about a tap, and has its port become `ACTIVE` even if it is already: whoever made the tap waits for that.
    pub(super) fn ask_about(&mut self, tap: &str) {
        let Some(known) = self.taps.get_mut(tap) else { return };
        known.is_awaited = true;
        if self.settings.has_groups {
            // The answer names the port, too.
            self.due.security.insert(tap.to_owned());
        }
        match known.port {
            Some(port) if self.can_pull => _ = self.due.ports.insert(port),
            None if self.can_pull && self.settings.has_groups => (),
            _ => _ = self.due.details.insert(tap.to_owned()),
        }
    }

    /// Takes in which ports are behind new taps, as an answer about their groups says. Ports that nothing filters are not in it.
    pub(super) fn identified(&mut self, taps: &[String], info: &SecurityGroupInfo, now: Instant) {
        let ports: BTreeMap<String, PortId> = info.devices.good.keys().map(|port| (port.tap_name(), *port)).collect();
        for tap in taps {
            let Some(known) = self.taps.get(tap) else { continue };
            match (known.port, ports.get(tap)) {
                (None, Some(port)) if self.can_pull => _ = self.due.ports.insert(*port),
                // Otherwise it is asked about in detail anyway.
                (None, None) if self.can_pull => _ = self.due.details.insert(tap.clone()),
                (Some(port), _) if self.cloud.unknown_groups().any(|unknown| unknown == port) => {
                    // It stays as it was, a new one closed.
                    self.retry.tap_failed(tap, now);
                    self.due.security.insert(tap.clone());
                }
                _ => (),
            }
        }
    }

    /// Whether whoever made a tap waits for its port to become `ACTIVE`; it is said once.
    pub(super) fn take_awaited(&mut self, tap: &str) -> bool {
        self.taps.get_mut(tap).is_some_and(|known| std::mem::take(&mut known.is_awaited))
    }
}
