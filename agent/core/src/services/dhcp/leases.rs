//! Leases that nobody should have any more. dnsmasq gives an address to nobody else while somebody has a lease of it, and forgets
//! a lease before its time only when the client says so. When a port has gone, the agent says it in its place.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{model::Mac, services::Reservations};

/// A lease in dnsmasq's file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lease {
    /// Of DHCP.
    V4 {
        /// Whose it is.
        mac: Mac,
        /// The address.
        address: Ipv4Addr,
        /// How the client calls itself.
        client_id: Option<Vec<u8>>,
    },
    /// Of DHCPv6.
    V6 {
        /// Which of the client's interfaces it is for, as the client counts them.
        iaid: u32,
        /// The address.
        address: Ipv6Addr,
        /// How the client calls itself (DUID, RFC 8415 §11).
        client_id: Vec<u8>,
    },
}

/// What a leases file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// All leases.
    pub leases: Vec<Lease>,
    /// How the server calls itself to clients of DHCPv6.
    pub server_id: Option<Vec<u8>>,
}

impl Leases {
    /// Reads a leases file; a line that says something else is somebody else's business.
    pub fn parse(text: &str) -> Self {
        let mut leases = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["duid", id] => leases.server_id = bytes(id),
                [_, who, address, _, client_id] => leases.leases.extend(lease(who, address, client_id)),
                _ => (),
            }
        }
        leases
    }
}

fn lease(who: &str, address: &str, client_id: &str) -> Option<Lease> {
    let client_id = bytes(client_id);
    match address.parse().ok()? {
        IpAddr::V4(address) => Some(Lease::V4 { mac: who.parse().ok()?, address, client_id }),
        // Temporary addresses have a letter before the number.
        IpAddr::V6(address) => {
            Some(Lease::V6 { iaid: who.trim_start_matches('T').parse().ok()?, address, client_id: client_id? })
        }
    }
}

/// Bytes in hexadecimal, with colons between them; `*` stands for none.
fn bytes(text: &str) -> Option<Vec<u8>> {
    text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

impl Reservations {
    /// The leases in a leases file that are nobody's reservation.
    pub fn stale(&self, text: &str) -> Vec<Lease> {
        let is_reserved = self.is_reserved();
        Leases::parse(text).leases.into_iter().filter(|lease| !is_reserved(lease)).collect()
    }

    /// Those of them that the running server can be told to forget: it ignores what is said of an address in none of its ranges.
    pub fn releasable(&self, text: &str) -> Vec<Lease> {
        let is_heard = |lease: &Lease| self.subnets.iter().any(|subnet| subnet.contains(&lease.address()));
        self.stale(text).into_iter().filter(is_heard).collect()
    }

    /// A leases file without what is nobody's reservation, and without more leases than the server reads; `None` when it has neither.
    pub fn without_nobodys(&self, text: &str) -> Option<String> {
        let is_reserved = self.is_reserved();
        let mut n_leases = 0_u32;
        let is_kept = |line: &&str| {
            let leases = Leases::parse(line).leases;
            n_leases = n_leases.saturating_add(u32::from(leases.iter().any(&is_reserved)));
            leases.iter().all(|lease| is_reserved(lease) && n_leases <= self.leases_max)
        };
        let (lines, kept): (_, Vec<&str>) = (text.lines().count(), text.lines().filter(is_kept).collect());
        (kept.len() < lines).then(|| kept.into_iter().flat_map(|line| [line, "\n"]).collect())
    }

    fn is_reserved(&self) -> impl Fn(&Lease) -> bool {
        let mut owners: BTreeMap<IpAddr, Vec<Mac>> = BTreeMap::new();
        for (mac, address) in &self.addresses {
            owners.entry(*address).or_default().push(*mac);
        }
        move |lease| match lease {
            Lease::V4 { mac, address, .. } => owners.get(&IpAddr::V4(*address)).is_some_and(|macs| macs.contains(mac)),
            // Who has it cannot be told: a client calls itself after any of its interfaces.
            Lease::V6 { address, .. } => owners.contains_key(&IpAddr::V6(*address)),
        }
    }
}

/// Where servers of DHCP listen.
pub const DHCP_SERVER_PORT: u16 = 67;
/// Where servers of DHCPv6 listen.
pub const DHCPV6_SERVER_PORT: u16 = 547;
/// Where clients of DHCPv6 speak from: dnsmasq hears nobody else.
pub const DHCPV6_CLIENT_PORT: u16 = 546;
/// `All_DHCP_Relay_Agents_and_Servers` (RFC 8415 §7.1).
pub const DHCPV6_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

impl Lease {
    /// The address.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::V4 { address, .. } => (*address).into(),
            Self::V6 { address, .. } => (*address).into(),
        }
    }

    /// The UDP payload with which the client would give it back: DHCPRELEASE (RFC 2131 §4.4.6) to `server`, or Release (RFC 8415
    /// §18.2.7) to the server that calls itself `server_id`.
    pub fn release(&self, server: Ipv4Addr, server_id: &[u8]) -> Vec<u8> {
        match self {
            Self::V4 { mac, address, client_id } => {
                const HEADER_LEN: usize = 236;
                // BOOTREQUEST, Ethernet with addresses of 6 bytes, no relays; any transaction.
                let mut message = vec![1, 1, 6, 0, 0x6f, 0x76, 0x65, 0x72];
                message.extend([0; 4]);
                message.extend(address.octets());
                message.extend([0; 12]);
                message.extend(mac.0);
                message.resize(HEADER_LEN, 0);
                message.extend([99, 130, 83, 99]);
                message.extend([53, 1, 7]);
                message.extend([54, 4]);
                message.extend(server.octets());
                // No option is longer than its length can say.
                if let Some(client_id) = client_id.as_ref().filter(|id| id.len() <= usize::from(u8::MAX)) {
                    message.extend([61, u8::try_from(client_id.len()).unwrap_or_default()]);
                    message.extend(client_id);
                }
                message.push(255);
                message
            }
            Self::V6 { iaid, address, client_id } => {
                let mut ia_address = address.octets().to_vec();
                // Lifetimes mean nothing here.
                ia_address.extend([0; 8]);
                let mut ia = iaid.to_be_bytes().to_vec();
                ia.extend([0; 8]);
                option_v6(&mut ia, 5, &ia_address);
                let mut message = vec![8, 0x6f, 0x76, 0x65];
                option_v6(&mut message, 1, client_id);
                option_v6(&mut message, 2, server_id);
                option_v6(&mut message, 8, &[0, 0]);
                option_v6(&mut message, 3, &ia);
                message
            }
        }
    }
}

fn option_v6(message: &mut Vec<u8>, code: u16, value: &[u8]) {
    message.extend(code.to_be_bytes());
    message.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    message.extend(value);
}
