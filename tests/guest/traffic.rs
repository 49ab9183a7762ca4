//! What a guest sends and receives, with every offload that its device has.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use overlane_tests::lab::Lanes;

use crate::bed::Bed;

const MIB: u64 = 1 << 20;
/// How much is carried each way.
const LENGTH: u64 = 8 * MIB;
/// What a segment of a TCP connection holds at most on a network whose MTU is 1450 bytes.
const SEGMENT: u64 = 1398;

/// Bytes that do not repeat, so that none can be lost, doubled or swapped unseen.
fn bytes() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // Xorshift (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..LENGTH / 8).flat_map(|_| next()).collect()
}

/// The hash of what a command prints, as `sha256sum` writes it.
fn hash(line: &str) -> Result<&str> {
    line.split_whitespace().next().context("a hash")
}

/// Some MiB each way between the guest and a machine on another host arrive as they were sent, in superpackets.
fn expect_traffic(lanes: Lanes) -> Result<()> {
    let bed = Bed::configured(lanes, |_, _| ())?;
    let [guest_port, machine_port] = bed.pair.ports.clone();
    for address in &machine_port.fixed_ips {
        bed.guest.wait_for(address)?;
    }
    for address in &guest_port.fixed_ips {
        bed.machine().ping(address, 20)?;
    }

    let folder = bed.folder("www")?;
    let file = folder.join("bytes");
    fs::write(&file, bytes()).context("writing a file")?;
    let sent = bed.machine().run(&format!("sha256sum {}", file.display()))?;
    let _server = bed.start(&format!("httpd -f -p 8080 -h {}", folder.display()))?;
    bed.wait_for_listener(8080)?;

    let before = bed.guest.counter("rx_packets")?;
    let url = format!("http://{}:8080/bytes", machine_port.ipv4());
    let received = bed.guest.run(&format!("wget -q -O /tmp/bytes {url} && sha256sum /tmp/bytes"))?;
    ensure!(hash(&received)? == hash(&sent)?, "the guest has received something else");
    let packets = bed.guest.counter("rx_packets")? - before;
    ensure!(packets < LENGTH / SEGMENT / 2, "the guest has received single segments: {packets} packets");

    bed.guest.run("httpd -p 8080 -h /tmp")?;
    let before = bed.guest.counter("tx_packets")?;
    for address in [guest_port.ipv4().to_owned(), format!("[{}]", guest_port.ipv6())] {
        let back = folder.join("back");
        bed.machine()
            .run(&format!("curl --silent --fail --globoff --output {} http://{address}:8080/bytes", back.display()))?;
        ensure!(
            fs::read(&back).context("reading a file")? == bytes(),
            "the machine has received something else from {address}"
        );
    }
    let packets = bed.guest.counter("tx_packets")? - before;
    ensure!(packets < 2 * LENGTH / SEGMENT / 2, "the guest has sent single segments: {packets} packets");

    if lanes == Lanes::Both {
        let encapsulated = bed.pair.host("left").counted("from_port", &guest_port.tap(), "encapsulated")?;
        ensure!(encapsulated > 0, "the fast lane has carried nothing");
    }
    Ok(())
}

#[test]
fn a_guest_with_all_offloads_exchanges_data_with_another_host_by_the_fast_lane() -> Result<()> {
    expect_traffic(Lanes::Both)
}

#[test]
fn a_guest_with_all_offloads_exchanges_data_with_another_host_by_the_kernel_lane() -> Result<()> {
    expect_traffic(Lanes::KernelOnly)
}
