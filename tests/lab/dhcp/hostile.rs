//! Requests that mean no good.

use std::net::UdpSocket;

use anyhow::{Context as _, Result, ensure};
use overlane_tests::lab::{Lanes, Machine};

use super::{Cloud, said, same};

/// Broadcasts datagrams to the port of DHCP servers.
fn send(machine: &Machine, datagrams: &[Vec<u8>]) -> Result<()> {
    machine.namespace.inside(|| {
        let socket = UdpSocket::bind(("0.0.0.0", 68)).context("binding")?;
        socket.set_broadcast(true).context("allowing broadcast")?;
        datagrams
            .iter()
            .try_for_each(|datagram| socket.send_to(datagram, ("10.0.10.255", 67)).map(drop).context("sending"))
    })
}

/// A request in the name of `mac`, with these options.
fn request(mac: [u8; 6], options: &[u8]) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4];
    message.resize(28, 0);
    message.extend(mac);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99]);
    message.extend(options);
    message
}

#[test]
fn garbage_and_requests_in_the_name_of_others_do_no_harm() -> Result<()> {
    let cloud = Cloud::running(Lanes::Both)?;
    let [left, right] = cloud.boot_both()?;
    cloud.lease(&left)?;
    let (pid, leases) = (cloud.pid()?, cloud.read("leases")?.lines().count());
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    // Noise of every length, by a generator that needs no seed.
    let mut state: u32 = 1;
    for length in 0..600_usize {
        let byte = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        datagrams.push((0..length).map(byte).collect());
    }
    // Options that are longer than what is left, or do not end; and too long by themselves.
    let mac = left.port.mac();
    datagrams.push(request(mac, &[53, 255, 1]));
    datagrams.push(request(mac, &[53, 1, 1, 55]));
    datagrams.push(request(mac, &[53, 1, 1, 61, 255].iter().copied().chain([7; 255]).collect::<Vec<_>>()));
    // Nobody's machines, each asking for an address.
    datagrams.extend((0..255).map(|last| request([0xfa, 0x16, 0x3e, 0xee, 0xee, last], &[53, 1, 1, 255])));
    send(&left, &datagrams)?;
    same("ip", said(&cloud.lease(&right)?, "ip"), right.port.ipv4())?;
    same("the same process", cloud.pid()?, pid)?;
    same("leases", cloud.read("leases")?.lines().count(), leases)?;
    // A name is nobody's to take: reservations say who is called what.
    ensure!(cloud.read("leases")?.contains("host-10-0-10-2"), "{}", cloud.read("leases")?);
    Ok(())
}

#[test]
fn a_port_cannot_ask_with_the_mac_address_of_another() -> Result<()> {
    let cloud = Cloud::running(Lanes::Both)?;
    let [left, right] = cloud.boot_both()?;
    cloud.lease(&left)?;
    left.run("ip link set eth0 down")?;
    left.run(&format!("ip link set eth0 address {}", right.port.mac_address))?;
    left.run("ip link set eth0 up")?;
    let script = "/bin/true";
    let asked = left.run(&format!("busybox udhcpc -i eth0 -n -q -t 2 -T 1 -A 1 -s {script}"));
    ensure!(asked.is_err(), "it has got an address that is not its own");
    let drops = cloud.pair.host("left").show("drops")?;
    let spoofed = drops.iter().filter(|row| row["reason"] == "spoofed-mac").filter_map(|row| row["packets"].as_u64());
    ensure!(spoofed.sum::<u64>() > 0, "{drops:?}");
    same("ip", said(&cloud.lease(&right)?, "ip"), right.port.ipv4())
}
