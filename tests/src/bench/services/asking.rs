//! A DHCP client that asks much more often than any real one, so that its patience is not what is measured.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use overlane_tests::wait::PATIENCE;

const AGAIN: Duration = Duration::from_millis(5);
/// Where the options begin, behind header and cookie (RFC 2131 §2, §3).
const OPTIONS: usize = 240;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

/// Asks at `eth0` of the calling thread's namespace until it has a lease, and returns the address.
///
/// # Errors
/// When nobody answers.
pub(crate) fn ask(mac: [u8; 6]) -> Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).context("binding")?;
    setsockopt(&socket, BindToDevice, &"eth0".into()).context("binding to a device")?;
    socket.set_broadcast(true).context("allowing broadcast")?;
    socket.set_read_timeout(Some(AGAIN)).context("setting a timeout")?;
    let offer = exchange(&socket, &message(mac, DISCOVER, &[]), OFFER)?;
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(&offer[16..20])?);
    let server = option(&offer, 54).context("an offer without a server")?;
    let more: Vec<u8> =
        [50, 4].into_iter().chain(address.octets()).chain([54, 4]).chain(server.iter().copied()).collect();
    let answer = exchange(&socket, &message(mac, REQUEST, &more), ACK)?;
    ensure!(answer[16..20] == address.octets(), "another address than the one that was offered");
    Ok(address)
}

/// A message of a client that wants its answers broadcast: it has no address to send them to.
fn message(mac: [u8; 6], kind: u8, more: &[u8]) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0];
    message.extend(&mac[2..]);
    message.extend([0, 0, 0x80, 0]);
    message.resize(28, 0);
    message.extend(mac);
    message.resize(OPTIONS - 4, 0);
    message.extend([99, 130, 83, 99, 53, 1, kind]);
    message.extend(more);
    message.push(255);
    message
}

fn exchange(socket: &UdpSocket, question: &[u8], kind: u8) -> Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 1500];
    while Instant::now() < deadline {
        socket.send_to(question, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67)).context("asking")?;
        match socket.recv(&mut buffer) {
            Ok(length) if length > OPTIONS && buffer[4..8] == question[4..8] => {
                let answer = buffer[..length].to_vec();
                if option(&answer, 53) == Some(&[kind]) {
                    return Ok(answer);
                }
            }
            Ok(_) => (),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => (),
            Err(error) => return Err(error).context("listening"),
        }
    }
    bail!("no answer within {PATIENCE:?}")
}

fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = message.get(OPTIONS..)?;
    while let [code, length, following @ ..] = rest {
        let value = following.get(..usize::from(*length))?;
        if *code == wanted {
            return Some(value);
        }
        rest = &following[value.len()..];
    }
    None
}
