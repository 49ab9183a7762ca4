//! IP protocols, by Neutron's names and by number.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An IP protocol number (IANA), never 0: Neutron's 0 means "any" and is no protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Protocol(u8);

/// A text that names no protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a number from 0 to 255 or one of: any, {}", names())]
pub struct UnknownProtocol;

/// Neutron's names (`IP_PROTOCOL_MAP` of neutron-lib), the first of a number being the one that is shown. They are not those
/// of `/etc/protocols`, which differ from system to system.
const NAMES: [(&str, u8); 23] = [
    ("ah", 51),
    ("dccp", 33),
    ("egp", 8),
    ("esp", 50),
    ("gre", 47),
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("ipv6-encap", 41),
    ("ipv6-frag", 44),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("ospf", 89),
    ("pgm", 113),
    ("rsvp", 46),
    ("sctp", 132),
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("vrrp", 112),
];

fn names() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

impl Protocol {
    /// ICMP.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);

    /// The protocol with a number; `None` for 0.
    pub const fn new(number: u8) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether its packets begin with a source and a destination port that rules may name: TCP, UDP, DCCP, SCTP and UDP-Lite.
    pub const fn has_ports(self) -> bool {
        matches!(self.0, 6 | 17 | 33 | 132 | 136)
    }

    /// Whether it exists in IPv6 packets only, so that an IPv4 rule cannot mean it.
    pub const fn is_ipv6_only(self) -> bool {
        matches!(self.0, 41 | 43 | 44 | 58 | 59 | 60)
    }

    /// Reads Neutron's `protocol`: `None` is any protocol (`any`, or the number 0).
    ///
    /// # Errors
    /// [`UnknownProtocol`] when the text is neither a name nor a number below 256.
    pub fn parse(text: &str) -> Result<Option<Self>, UnknownProtocol> {
        if text == "any" {
            return Ok(None);
        }
        if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(Self::new(*number));
        }
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match u8::from_str(text) {
            Ok(number) if is_number => Ok(Self::new(number)),
            _ => Err(UnknownProtocol),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.pad(name),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_known_by_neutrons_name_and_by_number() {
        for (name, number) in NAMES {
            assert_eq!(Protocol::parse(name), Ok(Protocol::new(number)));
            assert_eq!(Protocol::parse(&number.to_string()), Ok(Protocol::new(number)));
        }
        assert_eq!(Protocol::parse("253").expect("a number").expect("not any").to_string(), "253");
        assert_eq!(Protocol::ICMPV6.to_string(), "ipv6-icmp");
    }

    #[test]
    fn zero_and_any_are_every_protocol() {
        assert_eq!(Protocol::parse("0"), Ok(None));
        assert_eq!(Protocol::parse("any"), Ok(None));
    }

    #[test]
    fn what_is_neither_a_name_nor_a_byte_is_refused() {
        for text in ["", "TCP", "256", "-1", "+6", "6 ", "http"] {
            assert_eq!(Protocol::parse(text), Err(UnknownProtocol), "{text:?}");
        }
    }
}
