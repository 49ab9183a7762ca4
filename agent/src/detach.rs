//! `overlane detach`: gives the host back to the kernel lane, or to another agent, or takes away everything that Overlane has made.

use std::io::Write;

use anyhow::Context as _;
use overlane_core::{
    action::{Action, KernelAction},
    config::Control,
    desired::Desired,
    observed::KernelState,
    plan,
};

use crate::{
    datapath::{Datapath, Kept},
    files::Loaded,
    host, instance,
    kernel::Kernel,
    services,
};

/// How much of Overlane is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Programs that forward. Those that filter ports with security groups, and that limit or mark what ports send, stay.
    Forwarding,
    /// They, too, with the guard and all limits: another agent may filter. Devices stay and carry everything.
    Filters,
    /// And every device, DHCP server and router that Overlane has made.
    Everything,
}

/// Detaches programs, and takes away what else the extent covers. Programs that carry VLANs where the kernel cannot end with
/// everything only.
///
/// # Errors
/// When an agent is running, or the kernel refuses.
pub fn detach(loaded: &Loaded, extent: Extent, out: &mut impl Write) -> anyhow::Result<()> {
    if let Some(pid) = instance::running() {
        anyhow::bail!("the agent is running as process {pid} and would attach everything again: stop it first");
    }
    if extent == Extent::Forwarding && leave_filters(loaded, out)? {
        return Ok(());
    }
    let bpffs = &loaded.config.bpffs;
    let carried = match extent {
        Extent::Forwarding | Extent::Filters => Datapath::remove_but_vlans(bpffs),
        Extent::Everything => Datapath::remove(bpffs).map(|()| Vec::new()),
    };
    let carried = carried.context("detaching the programs")?;
    if carried.is_empty() {
        writeln!(out, "No program is attached any more: bridges, vxlan and VLAN devices carry everything.")?;
    } else {
        writeln!(
            out,
            "Only what carries {} is still attached, as they were made without the kernel's 8021q module and have nothing \
             else to send by: bridges and vxlan devices carry the rest. Those VLANs end with: overlane detach --purge",
            carried.join(", ")
        )?;
    }
    if extent == Extent::Forwarding {
        return Ok(());
    }
    writeln!(out, "No port is filtered any more: port security and security groups are OFF on this host.")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    if extent == Extent::Everything {
        runtime.block_on(remove_services(loaded, out))?;
    }
    runtime.block_on(remove_from_kernel(loaded, extent, out))
}

/// Leaves only programs that filter, limit and mark, and says which; `false` when there is nothing to filter, limit or mark.
fn leave_filters(loaded: &Loaded, out: &mut impl Write) -> anyhow::Result<bool> {
    let config = &loaded.config;
    let settings = host::load_settings(config, true);
    let kept = Datapath::filter_only(&config.bpffs, &settings).context("leaving only the filters")?;
    if kept == Kept::default() {
        return Ok(false);
    }
    writeln!(out, "No program forwards any more: bridges, vxlan and VLAN devices carry everything.")?;
    let Kept { filtered, under_policy, sub_ports } = kept;
    if filtered > 0 {
        writeln!(out, "{filtered} ports stay filtered, and new ones closed; to open them all: overlane detach --open")?;
    }
    if under_policy > 0 {
        writeln!(
            out,
            "What {under_policy} ports send stays limited or marked; that ends with: overlane detach --open"
        )?;
    }
    if !sub_ports.is_empty() {
        writeln!(
            out,
            "Subports behind {} are still tagged, as they were made without the kernel's 8021q module; that ends with: \
             overlane detach --purge",
            sub_ports.join(", ")
        )?;
    }
    Ok(true)
}

/// Ends DHCP servers and routers, which have their other ends in the bridges.
async fn remove_services(loaded: &Loaded, out: &mut impl Write) -> anyhow::Result<()> {
    if matches!(loaded.config.control, Control::Neutron(_)) {
        return Ok(());
    }
    let removed = services::remove(&loaded.config).await.context("removing DHCP servers and routers")?;
    for namespace in removed {
        writeln!(out, "delete namespace {namespace}")?;
    }
    Ok(())
}

/// Removes the guard, limits, and with everything the devices that Overlane has made.
async fn remove_from_kernel(loaded: &Loaded, extent: Extent, out: &mut impl Write) -> anyhow::Result<()> {
    let (mut kernel, _monitor) = Kernel::connect().context("connecting to the kernel by netlink")?;
    let nothing = Desired::default();
    let state: KernelState = kernel.observe(&nothing, &loaded.config).await.context("listing the kernel's state")?;
    if state.released.is_some() {
        kernel.apply(&KernelAction::RemoveGuard).await?;
    }
    let actions = match extent {
        Extent::Everything => plan::purge(&state, &loaded.config),
        Extent::Forwarding | Extent::Filters => plan::lift_limits(&state),
    };
    for action in &actions {
        let Action::Kernel(step) = action else { continue };
        writeln!(out, "{action}")?;
        kernel.apply(step).await?;
    }
    if actions.is_empty() && extent == Extent::Everything {
        writeln!(out, "There is no device and no limit that Overlane has made.")?;
    }
    Ok(())
}
