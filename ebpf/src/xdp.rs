//! A packet as the XDP hooks see it, and what becomes of it: this lane carries what it can carry whole, and leaves everything else,
//! as it came, to the programs at the TC hooks.

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    helpers::{bpf_xdp_adjust_head, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};
use overlane_abi::{Hook, Outcome};

use crate::{
    buffer::{Buffer, Wire, Words},
    checksum, flow_hash, maps,
    parse::{FRAGMENT, Family, ICMP, ICMPV6, InnerIp, TCP, UDP},
    skb::HelperRefused,
    verdict::{Verdict, tell_of_drop},
};

/// What the kernel tells of a packet.
pub struct Arrival {
    ctx: XdpContext,
    /// The interface that has received it, or is about to send it.
    ifindex: u32,
}

impl Arrival {
    /// A packet that an interface has received.
    #[inline(always)]
    pub fn received(ctx: XdpContext) -> Self {
        let ifindex = ctx.ingress_ifindex() as u32;
        Self { ctx, ifindex }
    }

    /// A packet that an interface is about to send.
    #[inline(always)]
    pub fn sent(ctx: XdpContext) -> Self {
        // SAFETY: the kernel passes a valid `xdp_md` for as long as the program runs.
        let ifindex = unsafe { (*ctx.ctx).egress_ifindex };
        Self { ctx, ifindex }
    }
}

/// A packet at an XDP hook; it begins with its Ethernet header. It fits a register: functions of their own take few.
#[derive(Clone, Copy)]
pub struct XdpBuff<'a> {
    arrival: &'a Arrival,
}

impl XdpBuff<'_> {
    /// Whether all of the packet is in one piece, so that `len` is its length and every device can send it.
    #[inline(always)]
    pub fn is_in_one_piece(self) -> bool {
        // SAFETY: as in `sent`.
        unsafe { bpf_xdp_get_buff_len(self.arrival.ctx.ctx) == self.len() as u64 }
    }

    /// Overwrites words of the packet from `offset` on.
    #[inline(always)]
    pub fn write_words<T: Words>(self, offset: usize, value: T) -> Result<(), HelperRefused> {
        let start = self.start() + offset;
        if start + size_of::<T>() > self.end() {
            return Err(HelperRefused);
        }
        // SAFETY: in bounds by the check above. About alignment see `Buffer::read_words`.
        unsafe { (start as *mut T).write(value) };
        Ok(())
    }

    /// Removes `len` bytes at the beginning, or, if negative, makes room for as many.
    #[inline(always)]
    pub fn move_start(self, len: i32) -> Result<(), HelperRefused> {
        // SAFETY: as in `sent`.
        match unsafe { bpf_xdp_adjust_head(self.arrival.ctx.ctx, len) } {
            0 => Ok(()),
            _ => Err(HelperRefused),
        }
    }
}

impl Buffer for XdpBuff<'_> {
    #[inline(always)]
    fn start(self) -> usize {
        self.arrival.ctx.data()
    }

    #[inline(always)]
    fn end(self) -> usize {
        self.arrival.ctx.data_end()
    }

    #[inline(always)]
    fn len(self) -> usize {
        self.end() - self.start()
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        self.arrival.ifindex
    }

    /// There are none yet: superpackets come before or after this hook.
    #[inline(always)]
    fn gso_size(self) -> usize {
        0
    }

    /// A tag is in the packet: programs are not attached to NICs that take it off.
    #[inline(always)]
    fn has_vlan_tag(self) -> bool {
        false
    }

    #[inline(always)]
    fn pull(self, _: usize) {}

    #[inline(always)]
    fn load<T: Wire>(self, offset: usize) -> Option<T> {
        let mut value = core::mem::MaybeUninit::<T>::uninit();
        let (to, len) = (value.as_mut_ptr().cast(), size_of::<T>() as u32);
        // SAFETY: the helper writes `len` bytes, all of the value, or refuses; `Wire` types are valid for any bytes.
        unsafe { (bpf_xdp_load_bytes(self.arrival.ctx.ctx, offset as u32, to, len) == 0).then(|| value.assume_init()) }
    }
}

/// Runs a program on a packet and tells the kernel: `carry` if the packet is on its way. What is left to the TC hooks is counted
/// there.
#[inline(always)]
pub fn conclude(arrival: &Arrival, hook: Hook, carry: u32, program: impl FnOnce(XdpBuff) -> Option<Verdict>) -> u32 {
    let buff = XdpBuff { arrival };
    let (ifindex, bytes) = (buff.ifindex(), buff.len() as u64);
    match program(buff) {
        None => XDP_PASS,
        Some(Verdict::Pass(outcome) | Verdict::Redirect(outcome, _)) => {
            maps::count(ifindex, hook, outcome, bytes);
            carry
        }
        Some(Verdict::Drop(reason)) => {
            maps::count(ifindex, hook, Outcome::Dropped, bytes);
            tell_of_drop(&arrival.ctx, hook, ifindex, reason, bytes);
            XDP_DROP
        }
    }
}

/// An IP packet in a frame, as far as it has to be known to be carried as it is.
pub struct Payload {
    /// Sum of the addresses' words, for hashes and checksums.
    addresses: u64,
    /// Source and destination port as they stand in the packet; 0 if there are none.
    ports: u32,
    is_finished: bool,
}

impl Payload {
    /// The packet at `offset`, behind its header's first look `ip`. `None` for what may need more than to be sent: protocols whose
    /// checksums others complete in ways that cannot be seen here, fragments, options and extension headers.
    #[inline(always)]
    pub fn at(buff: XdpBuff, ip: &InnerIp, offset: usize) -> Option<Self> {
        let (addresses, len, transport) = match ip.family {
            Family::V4 => {
                let [start, fragment, _, source, destination]: [u32; 5] = buff.read_words(offset)?;
                if u32::from_be(fragment) & FRAGMENT != 0 || ip.header_len != Ipv4Hdr::LEN {
                    return None;
                }
                let len = (u32::from_be(start) as u16).wrapping_sub(Ipv4Hdr::LEN as u16);
                (u64::from(source) + u64::from(destination), len, offset + Ipv4Hdr::LEN)
            }
            Family::V6 => {
                let [_, len_and_next, addresses @ ..]: [u32; 10] = buff.read_words(offset)?;
                (flow_hash::sum(addresses), (u32::from_be(len_and_next) >> 16) as u16, offset + Ipv6Hdr::LEN)
            }
        };
        let checksum_at = match ip.protocol {
            UDP => 6,
            TCP => 16,
            ICMP | ICMPV6 => return Some(Self { addresses, ports: 0, is_finished: true }),
            _ => return None,
        };
        let [ports]: [u32; 1] = buff.read_words(transport)?;
        let checksum: u16 = buff.read_words(transport + checksum_at)?;
        // What is unfinished is the sum of the pseudo-header; to a sum, the order of bytes does not matter (RFC 1071 §2).
        let pseudo_header = addresses + u64::from(u16::from(ip.protocol).to_be()) + u64::from(len.to_be());
        let is_absent = checksum == 0 && ip.protocol == UDP;
        Some(Self { addresses, ports, is_finished: is_absent || checksum != checksum::fold_wide(pseudo_header) })
    }

    /// Whether its checksum is complete: machines leave that to the hardware that they believe in, which XDP passes by.
    #[inline(always)]
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// The same for all packets of a flow, and spread over all values.
    #[inline(always)]
    pub fn flow_hash(&self) -> u32 {
        flow_hash::mix(self.addresses, self.ports)
    }
}

/// Bytes up to the IP header.
pub const IP: usize = EthHdr::LEN;
