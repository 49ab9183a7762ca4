//! What is compared.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::lab::{Lanes, World, open_vswitch};

use crate::hosts::{Behind, Hosts, Lane, Ports};

/// A way to get a packet from one machine to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    /// What its figures are called by.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) about: &'static str,
    bed: Bed,
    ports: Ports,
}

/// Hosts that variants are measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bed {
    Raw,
    Kernel,
    LinuxBridge,
    OpenVSwitch,
    Overlane,
    KernelLane,
    Xdp,
    XdpBoth,
}

/// Configuration of hosts whose NICs are XDP's.
pub(crate) const XDP: &str = "uplink_lane = xdp\n";

pub(crate) const RAW: &str = "raw";
pub(crate) const KERNEL: &str = "kernel";
pub(crate) const LINUX_BRIDGE: &str = "linuxbridge";
pub(crate) const OPEN_VSWITCH: &str = "ovs";
pub(crate) const TC: &str = "tc";
pub(crate) const TC_GROUPS: &str = "tc_groups";
pub(crate) const XDP_GROUPS: &str = "xdp_groups";
pub(crate) const XDP_BOTH: &str = "xdp_both";
pub(crate) const XDP_BOTH_GROUPS: &str = "xdp_both_groups";

/// The lanes that superpackets must pass whole.
pub(crate) const OVERLANE: [&str; 4] = [TC, TC_GROUPS, XDP_GROUPS, XDP_BOTH_GROUPS];

/// Whether a variant is Overlane's.
pub(crate) fn is_overlane(name: &str) -> bool {
    ![RAW, KERNEL, LINUX_BRIDGE, OPEN_VSWITCH].contains(&name)
}

pub(crate) const VARIANTS: [Variant; 10] = [
    Variant {
        name: RAW,
        about: "no overlay and no lookup: a tc program of four instructions sends what the tap receives out of the NIC, and back",
        bed: Bed::Raw,
        ports: Ports::Few,
    },
    Variant {
        name: KERNEL,
        about: "bridge and vxlan of the kernel, no filters, bridge-nf off",
        bed: Bed::Kernel,
        ports: Ports::Few,
    },
    Variant {
        name: LINUX_BRIDGE,
        about: "the same with the Linux bridge agent's security groups: iptables, conntrack zones, ipset, ebtables; ten rules",
        bed: Bed::LinuxBridge,
        ports: Ports::Few,
    },
    Variant {
        name: OPEN_VSWITCH,
        about: "Open vSwitch's userspace datapath: datapath_type=netdev, packet sockets, learning bridges, no filters",
        bed: Bed::OpenVSwitch,
        ports: Ports::Few,
    },
    Variant {
        name: TC,
        about: "Overlane's TC lane, ports without port security",
        bed: Bed::Overlane,
        ports: Ports::Open,
    },
    Variant {
        name: TC_GROUPS,
        about: "Overlane's TC lane, ports with security groups of ten rules",
        bed: Bed::Overlane,
        ports: Ports::Few,
    },
    Variant {
        name: "fast_path_off",
        about: "Overlane with fast_path = off: the kernel forwards, eBPF filters; ten rules",
        bed: Bed::KernelLane,
        ports: Ports::Few,
    },
    Variant {
        name: XDP_GROUPS,
        about: "Overlane's XDP lane: uplink_lane = xdp, encapsulation by TC; ten rules",
        bed: Bed::Xdp,
        ports: Ports::Few,
    },
    Variant {
        name: XDP_BOTH,
        about: "the same with from_port_xdp, so XDP at both ends; ports without port security",
        bed: Bed::XdpBoth,
        ports: Ports::Open,
    },
    Variant { name: XDP_BOTH_GROUPS, about: "XDP at both ends, ten rules", bed: Bed::XdpBoth, ports: Ports::Few },
];

impl Bed {
    fn build(self, world: &World, behind: Behind) -> Result<Hosts> {
        let overlane = |prefix, lane: Lane| Hosts::of(world.part(prefix)?, behind, lane);
        match self {
            Self::Raw => Hosts::raw(world, behind),
            Self::Kernel => Hosts::unfiltered(world, behind),
            Self::LinuxBridge => Hosts::with_iptables(world, behind),
            Self::OpenVSwitch => {
                ensure!(behind == Behind::Veth, "its machines have no taps: where it forwards, they have vhost-user");
                let root = open_vswitch::root().context(
                    "OVERLANE_OPEN_VSWITCH_ROOT does not name a folder with its packages; `cargo xtask bench datapath` \
                     unpacks them where they can be had",
                )?;
                Hosts::with_open_vswitch(world, &root)
            }
            Self::Overlane => overlane("overlane-", Lane::USUAL),
            Self::KernelLane => overlane("off-", Lane { lanes: Lanes::KernelOnly, ..Lane::USUAL }),
            Self::Xdp => overlane("xdp-", Lane { more_config: XDP, ..Lane::USUAL }),
            Self::XdpBoth => overlane("xdp2-", Lane { more_config: XDP, from_port_xdp: true, ..Lane::USUAL }),
        }
    }
}

/// All hosts.
#[derive(Default)]
pub(crate) struct Beds {
    hosts: Vec<(Bed, Hosts)>,
}

impl Beds {
    /// Starts the hosts of all variants.
    pub(crate) fn build(world: &World, behind: Behind) -> Result<Self> {
        let mut beds = Self::default();
        for variant in VARIANTS {
            if beds.hosts.iter().any(|(bed, _)| *bed == variant.bed) {
                continue;
            }
            let built = variant.bed.build(world, behind);
            match built.with_context(|| format!("starting hosts for {}", variant.name)) {
                Ok(hosts) => {
                    // Open vSwitch can do nothing with segments that were put together.
                    if behind == Behind::Veth && variant.bed != Bed::OpenVSwitch {
                        hosts.poll(true)?;
                    }
                    beds.hosts.push((variant.bed, hosts));
                }
                // The other variants are worth measuring.
                Err(error) if behind != Behind::Veth || variant.bed == Bed::OpenVSwitch => {
                    eprintln!("NOT MEASURED: {}: {error:#}", variant.name);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(beds)
    }

    /// Whether there are no hosts.
    pub(crate) const fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Calls `work` with the hosts of each variant, one after the other, by its name.
    pub(crate) fn visit(&mut self, mut work: impl FnMut(&str, &mut Hosts, Ports) -> Result<()>) -> Result<()> {
        for variant in VARIANTS {
            if let Some((_, hosts)) = self.hosts.iter_mut().find(|(bed, _)| *bed == variant.bed) {
                work(variant.name, hosts, variant.ports).with_context(|| format!("measuring {}", variant.name))?;
            }
        }
        Ok(())
    }

    /// Something for each variant, by its name.
    pub(crate) fn each<'a, V>(&'a self, make: impl Fn(&'a Hosts, Ports) -> Result<V>) -> Result<Vec<(String, V)>> {
        let with_hosts = VARIANTS.iter().filter_map(|variant| {
            let (_, hosts) = self.hosts.iter().find(|(bed, _)| *bed == variant.bed)?;
            Some((variant, hosts))
        });
        let make = |(variant, hosts): (&Variant, &'a Hosts)| {
            let made = make(hosts, variant.ports).with_context(|| format!("preparing {}", variant.name))?;
            Ok((variant.name.to_owned(), made))
        };
        with_hosts.map(make).collect()
    }
}
