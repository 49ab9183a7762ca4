//! `binding:profile`: what an administrator tells the agent of one port.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What is read of a port's profile; the rest is for others, Nova above all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Whether the machine completes its own checksums, so that what it sends may be taken at XDP.
    pub from_port_xdp: bool,
}

impl<'de> Deserialize<'de> for Profile {
    /// Details of devices have an object, objects of ports the text of one. A profile is free text for whoever writes it: what is not
    /// understood says nothing.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = match Value::deserialize(deserializer)? {
            Value::String(text) => serde_json::from_str(&text).unwrap_or_default(),
            value => value,
        };
        Ok(Self { from_port_xdp: value["from_port_xdp"] == true })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_profile_is_read_in_either_form_and_says_nothing_by_default() {
        let read = |value| serde_json::from_value::<Profile>(value).expect("anything goes").from_port_xdp;
        assert!(read(json!({"from_port_xdp": true, "pci_slot": "0000:00:00.0"})));
        assert!(read(json!("{\"from_port_xdp\": true}")));
        for other in [json!({}), json!("{}"), json!(null), json!("garbage"), json!({"from_port_xdp": "no"}), json!([1])]
        {
            assert!(!read(other.clone()), "{other}");
        }
    }
}
