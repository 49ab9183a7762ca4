//! A machine that knows VLANs: what it has on its tap, tagged, is on an interface of its own.
//!
//! The machine's kernel need not have an 8021q module. Its tap is one that QEMU would open; instead of QEMU, a thread takes frames to
//! the interfaces of the machine and back, adding and removing tags, superpackets and checksums that are yet to be made included.

use std::{
    net::Shutdown,
    os::{fd::AsFd as _, unix::net::UnixStream},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Host, Machine, Namespace, Port, World};
use crate::tap::{self, Tap};

/// Room for a superpacket.
const FRAME_MAX: usize = 1 << 17;

/// A machine with an interface for its port, `eth0`, and one for each subport, such as `eth0.101`.
pub struct TrunkMachine {
    /// The machine, with the trunk's port.
    pub machine: Machine,
    stop: UnixStream,
    relay: Option<JoinHandle<()>>,
}

impl TrunkMachine {
    /// Starts a machine on a host.
    ///
    /// # Errors
    /// When namespace or devices cannot be made.
    pub fn boot(host: &Host, world: &World, port: &Port, sub_ports: &[(&Port, u16)]) -> Result<Self> {
        let machine = Machine::off(world, &format!("vm-{}-{}", &port.id[..11], host.name), port)?;
        let mut interfaces = vec![(None, interface(&machine.namespace, "eth0", port)?)];
        for (sub_port, vid) in sub_ports {
            let inside = interface(&machine.namespace, &format!("eth0.{vid}"), sub_port)?;
            interfaces.push((Some(*vid), inside));
        }
        let outside = Tap::create(&host.namespace, &port.tap())?;
        let (stop, stopped) = UnixStream::pair().context("a way to stop the machine")?;
        let relay = thread::spawn(move || relay(outside, interfaces, &stopped));
        Ok(Self { machine, stop, relay: Some(relay) })
    }
}

impl Drop for TrunkMachine {
    fn drop(&mut self) {
        let _ = self.stop.shutdown(Shutdown::Both);
        if let Some(relay) = self.relay.take() {
            let _ = relay.join();
        }
    }
}

/// An interface of a machine, with the addresses of a port.
fn interface(inside: &Namespace, name: &str, port: &Port) -> Result<Tap> {
    // An address that comes after the interface is up would be announced twice.
    let tap = Tap::create(inside, name)?;
    inside.run(&format!("ip link set {name} down"))?;
    inside.run(&format!("ip link set {name} address {} mtu 1450 up", port.mac_address))?;
    for address in &port.fixed_ips {
        let (prefix_len, nodad) = if address.contains(':') { (64, "nodad") } else { (24, "") };
        inside.run(&format!("ip address add {address}/{prefix_len} dev {name} {nodad}"))?;
    }
    Ok(tap)
}

/// Takes frames in and out until told to stop. A frame that cannot be taken further is lost, as on a wire.
fn relay(mut outside: Tap, mut interfaces: Vec<(Option<u16>, Tap)>, stopped: &UnixStream) {
    let mut buffer = vec![0; FRAME_MAX];
    loop {
        let taps = std::iter::once(outside.as_fd()).chain(interfaces.iter().map(|(_, tap)| tap.as_fd()));
        let mut ready: Vec<PollFd> =
            std::iter::once(stopped.as_fd()).chain(taps).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        if poll(&mut ready, PollTimeout::NONE).is_err() {
            return;
        }
        let is_ready: Vec<bool> = ready.iter().map(|fd| fd.any().unwrap_or_default()).collect();
        if is_ready[0] {
            return;
        }
        if is_ready[1]
            && let Ok((offload, frame)) = outside.take(&mut buffer)
        {
            let vid = frame.tags().first().map(|tci| tci & 0xfff);
            if let Some((_, inside)) = interfaces.iter_mut().find(|(of, _)| *of == vid) {
                let (offload, frame) = if vid.is_some() { tap::without_tag(offload, &frame) } else { (offload, frame) };
                let _ = inside.send(offload, &frame);
            }
        }
        for ((vid, inside), _) in interfaces.iter_mut().zip(&is_ready[2..]).filter(|(_, is_ready)| **is_ready) {
            if let Ok((offload, frame)) = inside.take(&mut buffer) {
                let (offload, frame) = vid.map_or((offload, frame.clone()), |vid| tap::with_tag(offload, &frame, vid));
                let _ = outside.send(offload, &frame);
            }
        }
    }
}
