//! Quality of service of a port: how fast it may send and receive, and how its packets are marked.

use std::{fmt, num::NonZeroU32};

use serde::{Deserialize, Serialize};

use crate::config::QosConfig;

/// What the policy of a port comes to. Directions are the machine's: egress is what it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qos {
    /// How fast it may send.
    pub egress: Option<RateLimit>,
    /// How fast it may receive.
    pub ingress: Option<RateLimit>,
    /// The DSCP of what it sends, 0 to 63.
    pub dscp: Option<u8>,
}

/// A limit of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// The rate, in kilobits (1000 bits) per second.
    pub kbps: NonZeroU32,
    /// How much may pass at once, in kilobits; 0 leaves it to whoever holds the port to the limit.
    pub burst_kbit: u32,
}

/// Owners of ports that are the network's own.
const NETWORK_OWNERS: [&str; 2] = ["network:", "neutron:"];
/// The one of these that the policy of a network is for as well.
const ROUTER_GATEWAY: &str = "network:router_gateway";

/// Whether the policy of a network holds for its ports of an owner that have none of their own: not for DHCP servers and internal
/// ports of routers, but for those that lead outside (`neutron/objects/qos/rule.py`).
pub fn is_under_network_policy(device_owner: &str) -> bool {
    device_owner == ROUTER_GATEWAY || !NETWORK_OWNERS.iter().any(|prefix| device_owner.starts_with(prefix))
}

impl Qos {
    /// Whether there is something in it that only eBPF can do: what the kernel has for it does not see packets that a program
    /// redirects.
    pub fn needs_programs(&self) -> bool {
        self.egress.is_some() || self.dscp.is_some()
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let egress = self.egress.map(|limit| format!("sends {limit}"));
        let ingress = self.ingress.map(|limit| format!("receives {limit}"));
        let dscp = self.dscp.map(|dscp| format!("DSCP {dscp}"));
        let parts: Vec<String> = [egress, ingress, dscp].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

impl RateLimit {
    /// How much the machine may send at once, in kilobits: without a word about it 80 % of what it may send in a second, as in the
    /// Linux bridge agent, which is what TCP needs to come near the limit.
    pub fn egress_burst_kbit(&self) -> u32 {
        let kbps = u64::from(self.kbps.get());
        if self.burst_kbit == 0 { u32::try_from(kbps * 4 / 5).unwrap_or(u32::MAX).max(1) } else { self.burst_kbit }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kbps = self.kbps.get();
        match kbps {
            _ if kbps.is_multiple_of(1_000_000) => write!(f, "{} Gbit/s", kbps / 1_000_000),
            _ if kbps.is_multiple_of(1000) => write!(f, "{} Mbit/s", kbps / 1000),
            _ => write!(f, "{kbps} kbit/s"),
        }
    }
}

/// A token bucket filter, the kernel's queueing discipline that limits what a device sends: what the machine behind a tap
/// receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tbf {
    /// In bytes per second.
    pub rate: u64,
    /// How long the bucket takes to fill, in the kernel's ticks of 64 nanoseconds.
    pub buffer: u32,
    /// How much may wait, in bytes.
    pub limit: u32,
}

/// `PSCHED_SHIFT` in the kernel's `include/net/pkt_sched.h`.
const NANOSECONDS_PER_TICK: u64 = 64;
/// The kernel keeps the time that a bucket takes to fill in 32 bits of nanoseconds.
const TICKS_MAX: u64 = u32::MAX as u64 / NANOSECONDS_PER_TICK;
/// An Ethernet header with a VLAN tag.
const HEADER: u64 = 18;

impl Tbf {
    /// What a limit is lifted to, at a rate that no tap reaches (a terabit per second, with a bucket of a millisecond of it): the
    /// kernel changes a filter without losing a packet, but drops what comes while it exchanges or removes one
    /// (`dev_deactivate`).
    pub const LIFTED: Self = Self { rate: 125_000_000_000, buffer: 15_625, limit: 1 << 30 };

    /// The filter for a limit, at a device with an MTU of `mtu` bytes.
    ///
    /// As the Linux bridge agent computes it, but that a packet of full size always fits into the bucket: the kernel drops those
    /// that do not.
    pub fn new(limit: &RateLimit, mtu: u32, config: &QosConfig) -> Self {
        let rate = u64::from(limit.kbps.get()) * 1000 / 8;
        let per_tick_of_the_kernel = rate.div_ceil(u64::from(config.kernel_hz.get()));
        let burst = (u64::from(limit.burst_kbit) * 1000 / 8).max(per_tick_of_the_kernel).max(u64::from(mtu) + HEADER);
        let buffer = (u128::from(burst) * 1_000_000_000).div_ceil(u128::from(rate * NANOSECONDS_PER_TICK));
        let waiting = rate * u64::from(config.tbf_latency_ms.get()) / 1000;
        Self {
            rate,
            buffer: u32::try_from(buffer.min(TICKS_MAX.into())).unwrap_or(u32::MAX),
            limit: u32::try_from(waiting + burst).unwrap_or(u32::MAX),
        }
    }
}

/// The queueing discipline at the root of a device, if somebody has chosen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// What it is known by at its device: the major number of its handle.
    pub handle: u16,
    /// What it is.
    pub kind: QdiscKind,
}

/// What a queueing discipline is, as far as the plan cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QdiscKind {
    /// A token bucket filter.
    Tbf(Tbf),
    /// Anything else, by the kernel's name for it.
    Other(String),
}

/// From here on the kernel chooses handles where nobody has.
const FIRST_CHOSEN_BY_KERNEL: u16 = 0x8000;

impl Qdisc {
    /// The handle of those that Overlane makes.
    pub const OURS: u16 = 0x4f4c;

    /// Whether Overlane has made it.
    pub fn is_ours(&self) -> bool {
        self.handle == Self::OURS && matches!(self.kind, QdiscKind::Tbf(_))
    }

    /// Whether it is what the Linux bridge agent makes: a token bucket filter without a handle that anybody has chosen.
    pub fn is_linux_bridge_agents(&self) -> bool {
        self.handle >= FIRST_CHOSEN_BY_KERNEL && matches!(self.kind, QdiscKind::Tbf(_))
    }
}

impl fmt::Display for Qdisc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            QdiscKind::Tbf(_) => "tbf",
            QdiscKind::Other(kind) => kind,
        };
        write!(f, "{kind} {:x}:", self.handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(kbps: u32, burst_kbit: u32) -> RateLimit {
        RateLimit { kbps: NonZeroU32::new(kbps).expect("the test's rates"), burst_kbit }
    }

    /// Bytes in the bucket.
    fn burst(tbf: &Tbf) -> u64 {
        u64::from(tbf.buffer) * NANOSECONDS_PER_TICK * tbf.rate / 1_000_000_000
    }

    #[test]
    fn a_filter_is_as_the_linux_bridge_agent_computes_it() {
        // `tc qdisc add … tbf rate 20000kbit burst 1000kbit latency 50ms`: limit 250000.
        let tbf = Tbf::new(&limit(20_000, 1000), 1450, &QosConfig::default());
        assert_eq!((tbf.rate, burst(&tbf), tbf.limit), (2_500_000, 125_000, 250_000));
        // Without a burst, what passes in a tick of the kernel's clock.
        assert_eq!(burst(&Tbf::new(&limit(20_000, 0), 1450, &QosConfig::default())), 10_000);
    }

    #[test]
    fn a_packet_of_full_size_fits_into_every_bucket() {
        for kbps in [100, 1000, 10_000_000] {
            let tbf = Tbf::new(&limit(kbps, 1), 1450, &QosConfig::default());
            assert!(burst(&tbf) >= 1464, "{kbps} kbit/s: {}", burst(&tbf));
        }
    }

    #[test]
    fn the_policy_of_a_network_is_for_machines_and_for_what_leads_outside() {
        for owner in ["", "compute:nova", "network:router_gateway"] {
            assert!(is_under_network_policy(owner), "{owner}");
        }
        for owner in ["network:dhcp", "network:router_interface", "network:router_interface_distributed"] {
            assert!(!is_under_network_policy(owner), "{owner}");
        }
    }
}
