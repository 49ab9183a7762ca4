//! What the other tests call a lost ping.

use std::thread;

use anyhow::{Result, ensure};
use overlane_tests::{
    lab::World,
    packet::{ETHERNET, Frame},
    tap::Tap,
};

const COUNT: u32 = 20;

/// A request's answer: the same, with places exchanged and another type.
fn answer(request: &Frame) -> Frame {
    const ADDRESSES: usize = ETHERNET + 12;
    const TYPE: usize = ETHERNET + 20;
    const CHECKSUM: usize = TYPE + 2;
    let mut bytes = request.0.clone();
    bytes[..12].rotate_left(6);
    bytes[ADDRESSES..ADDRESSES + 8].rotate_left(4);
    bytes[TYPE] = 0;
    // The sum of what is left is less by 8 in the upper byte.
    let sum = u32::from(bytes[CHECKSUM]) + 8;
    bytes[CHECKSUM] = sum as u8;
    bytes[CHECKSUM + 1] += (sum >> 8) as u8;
    Frame(bytes)
}

fn number(request: &Frame) -> u32 {
    const NUMBER: usize = ETHERNET + 26;
    u16::from_be_bytes([request.0[NUMBER], request.0[NUMBER + 1]]).into()
}

/// Pings through a tap whose other side hears the requests, one after the other, and says what it answers to each.
fn ping(mut behind: impl FnMut(Frame) -> Vec<Frame> + Send) -> Result<Result<String>> {
    let world = World::private()?;
    let machine = world.namespace("machine")?;
    let mut tap = Tap::create(&machine, "eth0")?;
    machine.run("ip link set eth0 up")?;
    machine.run("ip address add 10.0.10.1/24 dev eth0")?;
    machine.run("ip neighbour add 10.0.10.2 lladdr fa:16:3e:00:00:02 dev eth0")?;
    thread::scope(|scope| {
        let ping = scope.spawn(|| machine.ping("10.0.10.2", COUNT));
        let is_request = |frame: &Frame| frame.0[12..14] == [8, 0] && frame.0[ETHERNET + 20] == 8;
        let mut answered = 0;
        while answered < COUNT {
            let (offload, request) = tap.receive(is_request)?;
            for answer in behind(request) {
                tap.send(offload, &answer)?;
                answered += 1;
            }
        }
        Ok(ping.join().expect("it does not panic"))
    })
}

#[test]
fn an_answer_that_is_late_is_not_lost() -> Result<()> {
    let mut late = Vec::new();
    let output = ping(|request| {
        late.push(answer(&request));
        // When `ping` has nothing to do any more but wait, and has waited.
        if number(&request) > COUNT { std::mem::take(&mut late) } else { Vec::new() }
    })?;
    output.map(drop)
}

#[test]
fn one_that_is_never_answered_is_lost() -> Result<()> {
    let output = ping(|request| if number(&request) == 7 { Vec::new() } else { vec![answer(&request)] })?;
    let error = output.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(error.contains("lost pings: [7]"), "{error}");
    Ok(())
}
