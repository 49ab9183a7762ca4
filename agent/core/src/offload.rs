//! Which lane carries superpackets over an uplink, from what its NIC and the kernel's packet helpers can do.

use std::net::IpAddr;

use serde::Serialize;

/// What is switched on at a NIC, of what matters to tunnels; the names are those of `ethtool --show-features`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NicFeatures {
    /// Its driver; empty for what has none.
    pub driver: String,
    /// Cuts superpackets into segments behind a tunnel's headers (`tx-udp_tnl-segmentation`).
    pub segments_tunnels: bool,
    /// Cuts superpackets into TCP segments at all (`tx-tcp-segmentation`).
    pub segments_tcp: bool,
    /// Packets that have arrived are put together to superpackets (`rx-gro`).
    pub puts_together: bool,
    /// VLAN tags are taken off packets, and told beside them (`rx-vlan-hw-parse`).
    pub takes_tags_off: bool,
}

/// What the kernel's `bpf_skb_adjust_room` was found to do; `None`: it could not be tested, or has not been yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomHelper {
    /// It makes room for outer headers, with the flags that keep superpackets whole, and leaves the rest of a packet as it is.
    pub makes_room: Option<bool>,
    /// It can make an ordinary superpacket of a tunnel's (`BPF_F_ADJ_ROOM_DECAP_L4_UDP`).
    pub strips_tunnels: Option<bool>,
}

/// Who carries something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// The eBPF programs.
    Fast,
    /// The kernel's vxlan device.
    Kernel,
}

impl Lane {
    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Kernel => "kernel",
        }
    }
}

/// A lane, and why it is that one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The lane.
    pub lane: Lane,
    /// Why, in a few words.
    pub reason: String,
}

impl Choice {
    fn new(lane: Lane, reason: impl Into<String>) -> Self {
        Self { lane, reason: reason.into() }
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lane: {}", self.lane.name(), self.reason)
    }
}

/// Who carries the superpackets of an uplink. What fits into one packet of the wire is the fast lane's in any case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Superpackets {
    /// Those that ports send to other hosts.
    pub sent: Choice,
    /// Those that arrive for ports.
    pub received: Choice,
}

impl Superpackets {
    /// Chooses for tunnels from `local_ip`, by a NIC whose features are known or, in words, why they are not.
    pub fn choose(local_ip: IpAddr, nic: Option<&Result<NicFeatures, String>>, helper: RoomHelper) -> Self {
        let nic = match nic {
            Some(Ok(features)) => Ok(features),
            Some(Err(error)) => Err(error.as_str()),
            None => Err("nobody has looked"),
        };
        Self { sent: sent(local_ip, nic, helper), received: received(nic, helper) }
    }
}

/// What cannot be learned changes nothing: it says why.
fn sent(local_ip: IpAddr, nic: Result<&NicFeatures, &str>, helper: RoomHelper) -> Choice {
    if helper.makes_room == Some(false) {
        return Choice::new(Lane::Kernel, "this kernel's bpf_skb_adjust_room makes no room for outer headers");
    }
    let nic = match nic {
        Ok(features) => features,
        Err(error) => return Choice::new(Lane::Fast, format!("what the NIC can do is not known ({error})")),
    };
    match nic {
        NicFeatures { segments_tunnels: true, segments_tcp: true, .. } => {
            Choice::new(Lane::Fast, "the NIC cuts them (tx-udp_tnl-segmentation is on)")
        }
        NicFeatures { segments_tunnels: true, .. } => {
            Choice::new(Lane::Fast, "the kernel cuts them (tx-tcp-segmentation is off)")
        }
        // Receivers whose NICs do not see into tunnels either check an outer checksum by hardware, and know the inner ones from it.
        // The fast lane sends none, as each segment would need its own.
        _ if local_ip.is_ipv4() => Choice::new(
            Lane::Kernel,
            "tx-udp_tnl-segmentation is off, and the vxlan device adds checksums that spare receivers work",
        ),
        // Over IPv6 the vxlan device sends no checksum either.
        _ => Choice::new(Lane::Fast, "the kernel cuts them (tx-udp_tnl-segmentation is off)"),
    }
}

fn received(nic: Result<&NicFeatures, &str>, helper: RoomHelper) -> Choice {
    if nic.is_ok_and(|features| !features.puts_together) {
        return Choice::new(Lane::Kernel, "rx-gro is off: nothing is put together, segments are the fast lane's");
    }
    Choice::new(
        Lane::Kernel,
        match helper.strips_tunnels {
            Some(true) => "this version does not use the kernel's BPF_F_ADJ_ROOM_DECAP_L4_UDP yet",
            Some(false) => "this kernel has no BPF_F_ADJ_ROOM_DECAP_L4_UDP",
            None => "whether this kernel has BPF_F_ADJ_ROOM_DECAP_L4_UDP is not known",
        },
    )
}
