//! Packets a second, with everything on one CPU: so the time that a packet takes is what it costs.

use anyhow::Result;

use super::{
    Effort,
    variants::{Beds, KERNEL, LINUX_BRIDGE, OPEN_VSWITCH, RAW, TC, TC_GROUPS, XDP_BOTH, XDP_BOTH_GROUPS, XDP_GROUPS},
};
use crate::{
    figures::Figures,
    frames::Entrance,
    path::{Load, Path},
    turns::{self, Rates, Turns},
};

/// Without the frame check sequence, which no virtual device has.
const FRAME_64: usize = 60;
const FRAME_1400: usize = 1400;
const FLOWS: [u32; 3] = [1, 16, 100_000];

/// The load that everything is compared with. Packets enter as a tap's driver delivers them, without the veth that is in its place here.
const USUAL: Load = Load::SMALL;

pub(crate) fn measure(figures: &mut Figures, beds: &Beds, effort: Effort) -> Result<()> {
    let (rates, usual_loss) = rates(beds, USUAL, effort.turns())?;
    note(figures, &rates, USUAL);
    for name in rates.names() {
        let nanos = rates.of(name).iter().map(|rate| 1e9 / rate).collect();
        figures.add(format!("ns_per_packet_{name}"), "ns", nanos);
    }
    for (key, of, to) in [
        ("tc_groups_vs_linuxbridge", TC_GROUPS, LINUX_BRIDGE),
        ("tc_vs_kernel", TC, KERNEL),
        ("tc_vs_raw", TC, RAW),
        ("tc_groups_vs_kernel", TC_GROUPS, KERNEL),
        ("xdp_vs_linuxbridge", XDP_GROUPS, LINUX_BRIDGE),
        ("tc_vs_ovs", TC, OPEN_VSWITCH),
    ] {
        figures.add(key, "x", rates.ratio(of, to));
    }
    let mut losses = vec![usual_loss];
    // As machines send: through the driver of the tap, where an XDP program would be.
    let sent = Load { entrance: Entrance::Sent, ..USUAL };
    let (rates, loss) = self::rates(beds, sent, effort.turns())?;
    note(figures, &rates, sent);
    for (key, of, to) in [
        ("xdp_both_vs_linuxbridge", XDP_BOTH_GROUPS, LINUX_BRIDGE),
        ("xdp_both_vs_kernel", XDP_BOTH, KERNEL),
        ("xdp_both_vs_ovs", XDP_BOTH, OPEN_VSWITCH),
        ("tc_vs_raw_sent", TC, RAW),
        ("tc_vs_kernel_sent", TC, KERNEL),
    ] {
        figures.add(key, "x", rates.ratio(of, to));
    }
    losses.push(loss);
    for frame_len in [FRAME_64, FRAME_1400] {
        for flows in FLOWS {
            let load = Load { flows, frame_len, ..USUAL };
            let is_usual = (flows, frame_len) == (USUAL.flows, USUAL.frame_len);
            let is_wanted = !effort.is_quick || frame_len == FRAME_64 && flows > USUAL.flows;
            if is_wanted && !is_usual {
                let (rates, loss) = self::rates(beds, load, effort.short_turns())?;
                note(figures, &rates, load);
                losses.push(loss);
            }
        }
    }
    // Slices in which something is lost are measured again, and counted here.
    figures.add("packets_lost", "%", losses);
    Ok(())
}

/// The rates under a load, and how many packets were lost, in percent.
fn rates(beds: &Beds, load: Load, turns: Turns) -> Result<(Rates, f64)> {
    let mut paths = beds.each(|hosts, ports| Path::new(hosts, ports, load))?;
    let rates = turns::rates(turns, &mut paths)?;
    let (lost, sent) =
        paths.iter().map(|(_, path)| path.lost()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Ok((rates, lost as f64 * 100.0 / sent as f64))
}

fn note(figures: &mut Figures, rates: &Rates, load: Load) {
    let size = if load.frame_len == FRAME_64 { 64 } else { load.frame_len };
    let door = if load.entrance == Entrance::Sent { "sent_" } else { "" };
    for name in rates.names() {
        let millions = rates.of(name).iter().map(|rate| rate / 1e6).collect();
        figures.add(format!("pps_{door}{size}_{}_flows_{name}", load.flows), "Mpps", millions);
    }
}
