//! Overlane's packet path. Entry points only: one program per hook, each in its own file.
// On other targets, where it is only checked and linted, it is an ordinary program that does nothing.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// The attribute macros generate undocumented public functions, and a binary has no public interface. They also say how a
// program is given its context.
#![allow(missing_docs, unreachable_pub, clippy::needless_pass_by_value)]

mod buffer;
mod checksum;
mod clock;
mod decap;
mod ecn;
mod encap;
mod flow_hash;
mod from_overlay;
mod from_port;
mod from_port_xdp;
mod from_uplink;
mod from_uplink_xdp;
mod lately;
mod maps;
mod parse;
mod probe_room;
mod qos;
mod respond;
mod security;
mod size;
mod skb;
mod switch;
mod to_port;
mod to_port_xdp;
mod to_vlan;
mod too_big;
mod trunk;
mod verdict;
mod vlan;
mod xdp;

use aya_ebpf::{
    bindings::xdp_action::{XDP_PASS, XDP_REDIRECT},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use overlane_abi::Hook;

use crate::{skb::Skb, verdict::conclude, xdp::Arrival};

/// What a port sends.
#[classifier]
pub fn from_port(ctx: TcContext) -> i32 {
    conclude(Skb::new(&ctx), Hook::FromPort, from_port::forward)
}

/// What a port receives.
#[classifier]
pub fn to_port(ctx: TcContext) -> i32 {
    conclude(Skb::new(&ctx), Hook::ToPort, to_port::admit)
}

/// What arrives on a NIC that leads to other hosts.
#[classifier]
pub fn from_uplink(ctx: TcContext) -> i32 {
    conclude(Skb::new(&ctx), Hook::FromUplink, from_uplink::forward)
}

/// What the kernel's vxlan device has decapsulated.
#[classifier]
pub fn from_overlay(ctx: TcContext) -> i32 {
    conclude(Skb::new(&ctx), Hook::FromOverlay, from_overlay::forward)
}

/// What a `<nic>.<vid>` device sends.
#[classifier]
pub fn to_vlan(ctx: TcContext) -> i32 {
    conclude(Skb::new(&ctx), Hook::ToVlan, to_vlan::tag)
}

/// What a port sends, before the kernel makes anything of it.
#[xdp(frags)]
pub fn from_port_xdp(ctx: XdpContext) -> u32 {
    xdp::conclude(&Arrival::received(ctx), Hook::FromPortXdp, XDP_REDIRECT, from_port_xdp::forward)
}

/// What arrives on a NIC that leads to other hosts, before the kernel makes anything of it.
#[xdp(frags)]
pub fn from_uplink_xdp(ctx: XdpContext) -> u32 {
    xdp::conclude(&Arrival::received(ctx), Hook::FromUplinkXdp, XDP_REDIRECT, from_uplink_xdp::forward)
}

/// What a port receives from either of them.
#[xdp(frags, map = "devmap")]
pub fn to_port_xdp(ctx: XdpContext) -> u32 {
    xdp::conclude(&Arrival::sent(ctx), Hook::ToPort, XDP_PASS, |buff| Some(to_port_xdp::admit(buff)))
}

/// Nothing is attached to this: what a kernel helper does is found out with it.
#[classifier]
pub fn probe_room(ctx: TcContext) -> i32 {
    probe_room::adjust(Skb::new(&ctx))
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel lets only GPL-compatible programs call the helpers used here; the sources are MIT OR Apache-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
