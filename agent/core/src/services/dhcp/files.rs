//! The files that dnsmasq reads.

use std::fmt::Write as _;

use super::Server;
use crate::services::{FileSpec, OnChange};

/// Reservations.
pub(super) const HOST: &str = "host";
/// Names.
pub(super) const ADDN_HOSTS: &str = "addn_hosts";
/// Options.
pub(super) const OPTS: &str = "opts";
/// Leases: dnsmasq's own, but for the beginning.
pub(super) const LEASES: &str = "leases";

impl Server<'_> {
    pub(super) fn files(&self) -> [(&'static str, FileSpec); 4] {
        let reloaded = |text| FileSpec { text, on_change: OnChange::Reload, is_secret: false };
        [
            (HOST, reloaded(self.host_file())),
            (ADDN_HOSTS, reloaded(self.addn_hosts_file())),
            (OPTS, reloaded(self.opts_file())),
            (LEASES, FileSpec { text: self.first_leases(), on_change: OnChange::Keep, is_secret: false }),
        ]
    }

    /// Leases of a server that knows of none: who has got an address of another server, or of one before it, is not refused when
    /// it renews. For ever, until the machine renews: who is deleted before is forgotten by [`super::super::Reservations`].
    fn first_leases(&self) -> String {
        let mut text = String::new();
        let leases = self.leases().filter(|(_, address)| address.is_ipv4());
        for (mac, address) in leases.take(usize::try_from(self.leases_max()).unwrap_or(usize::MAX)) {
            let _ = writeln!(text, "0 {mac} {address} * *");
        }
        text
    }
}
