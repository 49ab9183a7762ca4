//! A packet in memory, whichever kind of hook it is at.

use network_types::{arp::ArpHdr, eth::EthHdr, ip::Ipv6Hdr};

/// Headers that may be read from a packet: any bytes are a valid value, and nothing is assumed about alignment.
pub trait Wire: Copy {}

impl Wire for EthHdr {}
impl Wire for ArpHdr {}
impl Wire for Ipv6Hdr {}
impl<const N: usize> Wire for [u8; N] {}
impl<const N: usize> Wire for [u32; N] {}

/// What is loaded as it stands.
pub trait Words: Wire {}

impl Wire for u16 {}
impl Words for u16 {}
impl<const N: usize> Words for [u32; N] {}

/// What can be read of a packet; it begins with its Ethernet header.
pub trait Buffer: Copy {
    /// Address of the first byte.
    fn start(self) -> usize;

    /// Address past the last byte that is readable where it stands.
    fn end(self) -> usize;

    /// Bytes of the whole packet, Ethernet header included.
    fn len(self) -> usize;

    /// The interface whose hook runs.
    fn ifindex(self) -> u32;

    /// Payload bytes of each segment of a superpacket; 0 when the packet is a single one.
    fn gso_size(self) -> usize;

    /// Whether a VLAN tag is kept beside the packet, as after hardware offload.
    fn has_vlan_tag(self) -> bool;

    /// Makes the first `len` bytes readable by `read`, or as many as there are.
    fn pull(self, len: usize);

    /// As `read`, for an `offset` that is only known at run time, and wherever the bytes are. Slower.
    fn load<T: Wire>(self, offset: usize) -> Option<T>;

    /// The header at `offset`, if the readable part of the packet holds all of it.
    #[inline(always)]
    fn read<T: Wire>(self, offset: usize) -> Option<T> {
        let start = self.start() + offset;
        if start + size_of::<T>() > self.end() {
            return None;
        }
        // SAFETY: in bounds by the check above; `Wire` types are valid for any bytes.
        Some(unsafe { (start as *const T).read_unaligned() })
    }

    /// As `read`, for words and halves of words, in the order of transmission: with one load each.
    ///
    /// `read` takes byte by byte: a register and often a place on the stack for each of them. And what is written byte by byte
    /// and read again as a word costs the processor more than a map lookup.
    #[inline(always)]
    fn read_words<T: Words>(self, offset: usize) -> Option<T> {
        let start = self.start() + offset;
        if start + size_of::<T>() > self.end() {
            return None;
        }
        // SAFETY: in bounds by the check above; `Words` are valid for any bytes. They need not be aligned: wherever the
        // kernel's verifier accepts the load, the machine can do it.
        Some(unsafe { (start as *const T).read() })
    }

    /// The first `len` bytes, to be written to.
    #[inline(always)]
    fn room(self, len: usize) -> Option<*mut u8> {
        (self.start() + len <= self.end()).then_some(self.start() as *mut u8)
    }

    /// The byte at an `offset` that is only known at run time.
    #[inline(always)]
    fn read_byte(self, offset: usize) -> Option<u8> {
        self.load::<[u8; 1]>(offset).map(|[byte]| byte)
    }
}
