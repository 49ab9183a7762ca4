//! Requests that mean harm are refused, and harm nobody.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{lab::Namespace, wait::wait_until};

use super::{ADDRESS, Clouds, curl, get};

/// Longer than the service waits for anything.
const SILENCE: Duration = Duration::from_secs(30);
/// More than one address may have.
const CROWD: usize = 40;

fn connect(machine: &Namespace) -> Result<TcpStream> {
    let stream = machine.inside(|| TcpStream::connect((ADDRESS, 80)).context("connecting"))?;
    stream.set_read_timeout(Some(SILENCE)).context("setting a time limit")?;
    Ok(stream)
}

/// Everything that comes until the connection ends.
fn rest(stream: &mut TcpStream) -> Result<String> {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Ok(_) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) => Err(error).context("reading an answer"),
    }
}

/// What raw bytes are answered with, on a connection of their own.
fn send(machine: &Namespace, bytes: &[u8]) -> Result<String> {
    let mut stream = connect(machine)?;
    // The service may have had enough before the end.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    rest(&mut stream)
}

fn expect(machine: &Namespace, bytes: &[u8], status: &str) -> Result<()> {
    let answer = send(machine, bytes)?;
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
    ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?} was answered with {answer:?}");
    Ok(())
}

#[test]
fn broken_requests_are_refused_with_the_status_that_says_why() -> Result<()> {
    let clouds = Clouds::new(&["one"], |_| ())?;
    let machine = clouds.machine();
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let long_head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let big_body = format!("POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n{}", "a".repeat(100_000));
    let chunk = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
    let endless = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(20));
    let refused: [(&[u8], &str); 14] = [
        (b"GET /\r\n\r\n", "400"), // HTTP/0.9
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls\r\n\r\n", "400"),
        (b"GET /latest/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        (b"GET /latest/%00 HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        (b"GET /latest/../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        (b"GET /latest/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
        (b"DELETE /latest HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        (long_line.as_bytes(), "431"),
        (long_head.as_bytes(), "431"),
        (many_headers.as_bytes(), "431"),
        (big_body.as_bytes(), "413"),
        (endless.as_bytes(), "413"),
    ];
    for (bytes, status) in refused {
        expect(machine, bytes, status)?;
    }
    ensure!(get(machine, "/latest/meta-data/instance-id")? == "one");
    Ok(())
}

#[test]
fn requests_in_a_row_on_one_connection_are_answered_in_their_order() -> Result<()> {
    let clouds = Clouds::new(&["one"], |_| ())?;
    let requests = "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\n\r\n\
                    GET /latest/meta-data/local-ipv4 HTTP/1.1\r\nHost: x\r\n\r\n\
                    GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = send(clouds.machine(), requests.as_bytes())?;
    let places = ["one", "10.0.0.5", "404"].map(|text| answers.find(text));
    ensure!(places.iter().all(Option::is_some) && places.is_sorted(), "{answers}");
    Ok(())
}

#[test]
fn a_machine_that_dawdles_is_cut_off_and_one_that_crowds_is_turned_away_while_others_are_served() -> Result<()> {
    let clouds = Clouds::new(&["one", "two"], |_| ())?;
    let machine = clouds.machine();
    let mut dawdlers = Vec::new();
    for _ in 0..CROWD {
        let mut stream = connect(machine)?;
        // Some are turned away already.
        let _ = stream.write_all(b"GET /latest/meta-data/ HTTP/1.1\r\nX-Slow: ");
        dawdlers.push(stream);
    }
    clouds.service.wait_for_log("too many connections at 169.254.169.254:80 in qdhcp-1")?;
    ensure!(get(&clouds.machines[1], "/latest/meta-data/instance-id")? == "two", "another network is held up");
    machine.run("ip address add 10.0.0.66/24 dev eth0")?;
    let (status, _) = curl(machine, "/", &["--interface", "10.0.0.66"])?;
    ensure!(status == "404", "another address of the network is held up: {status}");
    let answers = dawdlers.iter_mut().map(rest).collect::<Result<Vec<String>>>()?;
    let count =
        |status: &str| answers.iter().filter(|answer| answer.starts_with(&format!("HTTP/1.1 {status} "))).count();
    ensure!(count("408") == 16 && count("503") == CROWD - 16, "{answers:?}");
    wait_until("the machine is served again", || Ok(get(machine, "/latest/meta-data/instance-id")? == "one"))?;
    let memory = clouds.service.memory_kib()?;
    ensure!(memory < 32 << 10, "the service has grown to {memory} KiB");
    Ok(())
}
