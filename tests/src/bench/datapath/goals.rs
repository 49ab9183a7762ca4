//! What figures should come to.

use crate::figures::Figure;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Limit {
    /// At least this.
    Low(f64),
    /// At most this.
    High(f64),
    /// At least this in the median, and never less than the second in any round.
    Steady(f64, f64),
}

/// A comparison with its limit.
pub(super) struct Goal {
    pub(super) comparison: &'static str,
    pub(super) key: &'static str,
    pub(super) limit: Limit,
}

pub(super) const GOALS: [Goal; 10] = [
    Goal {
        comparison: "TC lane with groups / kernel with iptables groups",
        key: "tc_groups_vs_linuxbridge",
        limit: Limit::Low(3.5),
    },
    Goal { comparison: "TC lane, groups off / kernel, bridge-nf off", key: "tc_vs_kernel", limit: Limit::Low(2.0) },
    Goal {
        comparison: "XDP decapsulation, TC encapsulation, groups / kernel with iptables groups",
        key: "xdp_vs_linuxbridge",
        limit: Limit::Low(4.5),
    },
    Goal {
        comparison: "XDP at both ends, groups / kernel with iptables groups",
        key: "xdp_both_vs_linuxbridge",
        limit: Limit::Low(8.0),
    },
    Goal {
        comparison: "XDP at both ends, groups off / kernel, bridge-nf off",
        key: "xdp_both_vs_kernel",
        limit: Limit::Low(6.0),
    },
    Goal { comparison: "TC lane, groups off / no overlay", key: "tc_vs_raw", limit: Limit::Low(0.85) },
    Goal {
        comparison: "TCP, one stream: TC lane, groups off / kernel, bridge-nf off",
        key: "tcp_vs_kernel",
        limit: Limit::Steady(1.05, 1.0),
    },
    Goal {
        comparison: "median of TCP requests: TC lane with groups / kernel with iptables groups",
        key: "rr_p50_vs_linuxbridge",
        limit: Limit::High(0.75),
    },
    Goal {
        comparison: "cost of groups on an established flow, with a million flows and a thousand rules",
        key: "groups_cost",
        limit: Limit::High(4.0),
    },
    Goal {
        comparison: "superpackets that arrive whole in a tap, TCP and UDP",
        key: "superpackets_whole",
        limit: Limit::Low(100.0),
    },
];

impl Limit {
    pub(super) fn is_reached(self, figure: &Figure) -> bool {
        match self {
            Self::Low(limit) => figure.value >= limit,
            Self::High(limit) => figure.value <= limit,
            Self::Steady(limit, worst) => figure.value >= limit && figure.min >= worst,
        }
    }

    pub(super) fn text(self, unit: &str) -> String {
        match self {
            Self::Low(limit) => format!("≥ {limit} {unit}"),
            Self::High(limit) => format!("≤ {limit} {unit}"),
            Self::Steady(limit, worst) => format!("≥ {limit} {unit}, always ≥ {worst}"),
        }
    }
}
