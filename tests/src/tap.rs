//! A real tap with virtio-net headers, as QEMU opens it: superpackets go in and come out whole.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{lab::Namespace, packet::Frame, wait::PATIENCE};

/// `struct virtio_net_hdr` (virtio 1.2 §5.1.6) without the number of buffers, in host byte order as tun has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Whether the checksum at `checksum_start + checksum_offset` is still to be completed.
    pub needs_checksum: bool,
    /// What kind of superpacket, or [`Offload::SINGLE`].
    pub kind: u8,
    /// Bytes of headers.
    pub header_len: u16,
    /// Payload bytes of each segment.
    pub segment_size: u16,
    /// Where the checksummed part begins.
    pub checksum_start: u16,
    /// Where in it the checksum goes.
    pub checksum_offset: u16,
}

impl Offload {
    /// No superpacket.
    pub const SINGLE: u8 = 0;
    /// TCP over IPv4.
    pub const TCP_V4: u8 = 1;
    /// TCP over IPv6.
    pub const TCP_V6: u8 = 4;
    /// UDP with a segment size (`UDP_SEGMENT`).
    pub const UDP: u8 = 5;

    const LEN: usize = 10;
    const NEEDS_CHECKSUM: u8 = 1;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = if self.needs_checksum { Self::NEEDS_CHECKSUM } else { 0 };
        bytes[1] = self.kind;
        let words = [self.header_len, self.segment_size, self.checksum_start, self.checksum_offset];
        for (place, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// As it is when what is in front of the checksummed part has become longer by so many bytes, or shorter.
    fn moved(self, by: i16) -> Self {
        if !self.needs_checksum && self.kind == Self::SINGLE {
            return self;
        }
        let header_len = self.header_len.saturating_add_signed(by);
        Self { header_len, checksum_start: self.checksum_start.saturating_add_signed(by), ..self }
    }

    /// Whether it is a superpacket of that kind, with or without `VIRTIO_NET_HDR_GSO_ECN`.
    pub const fn is_of(self, kind: u8) -> bool {
        self.kind & 0x7f == kind
    }

    fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let word = |index: usize| u16::from_ne_bytes([bytes[2 + 2 * index], bytes[3 + 2 * index]]);
        Self {
            needs_checksum: bytes[0] & Self::NEEDS_CHECKSUM != 0,
            kind: bytes[1],
            header_len: word(0),
            segment_size: word(1),
            checksum_start: word(2),
            checksum_offset: word(3),
        }
    }
}

/// A tap, which is there for as long as this is.
pub struct Tap {
    file: File,
}

/// Calls to the tun driver (kernel `Documentation/networking/tuntap.rst`).
mod driver {
    use super::libc;

    nix::ioctl_write_ptr_bad!(
        /// Makes the device.
        set_interface, libc::TUNSETIFF, libc::ifreq
    );
    nix::ioctl_write_int_bad!(
        /// Says what the guest can do.
        set_offload, libc::TUNSETOFFLOAD
    );
}

impl Tap {
    /// Makes a tap on a host, for a guest that can do everything.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(host: &Namespace, name: &str) -> Result<Self> {
        let file = host.inside(|| open(name, 0))?;
        host.run(&format!("ip link set {name} up"))?;
        Ok(Self { file })
    }

    /// As `create`, with several queues, none of which waits: a guest with as many processors sends by all of them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn with_queues(host: &Namespace, name: &str, count: usize) -> Result<Vec<Self>> {
        let queue = |_| host.inside(|| open(name, libc::IFF_MULTI_QUEUE)).map(|file| Self { file });
        let queues = (0..count).map(queue).collect::<Result<Vec<_>>>()?;
        for queue in &queues {
            fcntl(&queue.file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("not waiting at a tap")?;
        }
        host.run(&format!("ip link set {name} up"))?;
        Ok(queues)
    }

    /// Sends bytes that `bytes_of` has made: nothing is put together here.
    ///
    /// # Errors
    /// When the kernel refuses them.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).context("writing to a tap")
    }

    /// Whether there was a frame for the guest, which has been read into `buffer`: for a queue that does not wait.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn take_bytes(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        match self.file.read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("reading from a tap"),
        }
    }

    /// Sends what a guest would.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn send(&mut self, offload: Offload, frame: &Frame) -> Result<()> {
        let bytes = bytes_of(offload, frame);
        let written = self.file.write(&bytes).context("writing to a tap")?;
        anyhow::ensure!(written == bytes.len(), "the tap took {written} of {} bytes", bytes.len());
        Ok(())
    }

    /// The next frame, whatever it is, when `poll` says that there is one.
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> Result<(Offload, Frame)> {
        let length = self.file.read(buffer).context("reading from a tap")?;
        taken(&buffer[..length])
    }

    /// As `take_bytes`, with the frame and its header taken apart.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn take_ready(&mut self, buffer: &mut [u8]) -> Result<Option<(Offload, Frame)>> {
        self.take_bytes(buffer)?.map(|length| taken(&buffer[..length])).transpose()
    }

    /// The next frame for the guest that `is_meant`; others are thrown away.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn receive(&mut self, is_meant: impl Fn(&Frame) -> bool) -> Result<(Offload, Frame)> {
        let mut buffer = vec![0; 1 << 17];
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut ready = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).context("a time to wait")?;
            if poll(&mut ready, timeout).context("waiting for a tap")? == 0 {
                bail!("the tap has received nothing that was meant within {PATIENCE:?}");
            }
            let (offload, frame) = self.take(&mut buffer)?;
            if is_meant(&frame) {
                return Ok((offload, frame));
            }
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn taken(bytes: &[u8]) -> Result<(Offload, Frame)> {
    let (offload, frame) = bytes.split_first_chunk().context("a frame without its header")?;
    Ok((Offload::from_bytes(*offload), Frame(frame.to_vec())))
}

/// A frame as it is written to a tap.
pub fn bytes_of(offload: Offload, frame: &Frame) -> Vec<u8> {
    [offload.to_bytes().as_slice(), &frame.0].concat()
}

/// A frame and its offload with an 802.1Q tag, and without the outermost one, as a guest's own VLAN devices make it.
pub(crate) fn with_tag(offload: Offload, frame: &Frame, tci: u16) -> (Offload, Frame) {
    (offload.moved(4), frame.clone().tagged(tci))
}

pub(crate) fn without_tag(offload: Offload, frame: &Frame) -> (Offload, Frame) {
    (offload.moved(-4), Frame([&frame.0[..12], &frame.0[16..]].concat()))
}

fn open(name: &str, more_flags: libc::c_int) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").context("opening /dev/net/tun")?;
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.try_into().context("an interface name in ASCII")?;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | more_flags;
    request.ifr_ifru.ifru_flags = flags.try_into().context("flags of a tap")?;
    // SAFETY: the request is complete and outlives the call.
    unsafe { driver::set_interface(file.as_raw_fd(), &raw const request) }.context("making a tap")?;
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let offloads = offloads.try_into().context("offloads of a tap")?;
    // SAFETY: the request takes a plain number.
    unsafe { driver::set_offload(file.as_raw_fd(), offloads) }.context("switching on the offloads of a tap")?;
    Ok(file)
}
