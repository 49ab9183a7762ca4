//! MAC addresses.

use std::{borrow::Cow, fmt, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A MAC address, in the order of transmission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// A text that is no MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no MAC address: expected six bytes in hexadecimal, such as fa:16:3e:00:00:01")]
pub struct ParseMacError(pub String);

impl Mac {
    /// The key of a flood list in a vxlan device's FDB.
    pub const ZERO: Self = Self([0; 6]);

    /// The link-local address that an interface with this MAC address gives itself (RFC 4291, appendix A: modified EUI-64).
    pub const fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let interface = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
        let mut index = 0;
        while index < interface.len() {
            octets[8 + index] = interface[index];
            index += 1;
        }
        Ipv6Addr::from_octets(octets)
    }

    /// Whether the address names a group, broadcast included, rather than one interface (IEEE 802 group bit).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let error = || ParseMacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            // `from_str_radix` would take a sign as well.
            let is_byte = |part: &&str| part.len() <= 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            let part = parts.next().filter(is_byte).ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        // `pad` keeps column widths working in tables.
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_reads_as_it_prints() {
        let mac: Mac = "FA:16:3e:05:c:bf".parse().expect("valid");
        assert_eq!(mac.to_string(), "fa:16:3e:05:0c:bf");
    }

    #[test]
    fn the_link_local_address_follows_from_the_mac_address() {
        let mac: Mac = "fa:16:3e:43:8b:7e".parse().expect("valid");
        assert_eq!(mac.link_local().to_string(), "fe80::f816:3eff:fe43:8b7e");
    }

    #[test]
    fn what_is_not_six_hex_bytes_is_no_mac_address() {
        for text in
            ["", "fa:16:3e:00:00", "fa:16:3e:00:00:01:02", "fa:16:3e:00:00:xx", "fa163e000001", "fa:16:3e:00:00:+1"]
        {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
    }
}
