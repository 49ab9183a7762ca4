//! TCP connections a second.

use anyhow::Result;

use super::{
    Effort,
    variants::{Beds, KERNEL, LINUX_BRIDGE, TC, TC_GROUPS},
};
use crate::{figures::Figures, sockets::Connections, turns};

pub(crate) fn measure(figures: &mut Figures, beds: &Beds, effort: Effort) -> Result<()> {
    let mut connections = beds.each(Connections::new)?;
    let rates = turns::rates(effort.short_turns(), &mut connections)?;
    for name in rates.names() {
        figures.add(format!("tcp_crr_{name}"), "1/s", rates.of(name));
    }
    figures.add("crr_groups_vs_linuxbridge", "x", rates.ratio(TC_GROUPS, LINUX_BRIDGE));
    figures.add("crr_vs_kernel", "x", rates.ratio(TC, KERNEL));
    Ok(())
}
