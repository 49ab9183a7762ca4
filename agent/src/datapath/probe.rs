//! What the kernel's `bpf_skb_adjust_room` does, found out by running a program on packets that go nowhere.

use aya::{
    Ebpf,
    programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions},
};
use overlane_abi::{HEADER_V4, Probe};
use overlane_core::offload::RoomHelper;

const ETHERNET: usize = 14;
/// Ethernet, IPv4 and UDP headers, and enough to look like an outer header with something in it.
const FRAME: usize = ETHERNET + 20 + 8 + 500;

/// Length of the kernel's `struct __sk_buff`, and offsets in it.
const CONTEXT: usize = 192;
const MARK: usize = 8;
const PRIORITY: usize = 32;

/// Tests the helper. What it cannot find out it leaves open.
///
/// A superpacket cannot be tested so: one that `BPF_PROG_TEST_RUN` makes has no type, and the helper refuses it for that. That the
/// kernel keeps real ones whole is tested in the lab, where taps and wires are.
pub(super) fn room_helper(ebpf: &mut Ebpf) -> Result<RoomHelper, ProgramError> {
    let missing = || ProgramError::IOError(std::io::ErrorKind::NotFound.into());
    let program: &mut SchedClassifier = ebpf.program_mut(Probe::PROGRAM).ok_or_else(missing)?.try_into()?;
    program.load()?;
    let frame = frame();
    let grown = run(program, &frame, Probe::GROW, 0)?;
    // The outer header's place is between the Ethernet header and the rest, which is as it was.
    let makes_room = grown.is_some_and(|grown| grown.get(ETHERNET + HEADER_V4..) == frame.get(ETHERNET..));
    // Flags that the helper does not know it refuses, whatever the packet; without them it must not.
    let strips_tunnels = match run(program, &frame, Probe::SHRINK, 0)? {
        Some(_) => Some(run(program, &frame, Probe::SHRINK, Probe::DECAP_L4_UDP)?.is_some()),
        None => None,
    };
    Ok(RoomHelper { makes_room: Some(makes_room), strips_tunnels })
}

/// What the helper makes of a frame; `None` if it refuses.
fn run(
    program: &SchedClassifier,
    frame: &[u8; FRAME],
    request: u32,
    flags: u32,
) -> Result<Option<Vec<u8>>, ProgramError> {
    let mut output = vec![0; FRAME + HEADER_V4];
    let mut context = [0; CONTEXT];
    for (offset, value) in [(MARK, flags), (PRIORITY, request)] {
        context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut output),
        ctx_in: Some(&context),
        ..TestRunOptions::default()
    };
    let result = program.test_run(options)?;
    output.truncate(result.data_size_out as usize);
    Ok((result.return_value as i32 == Probe::DONE).then_some(output))
}

/// A UDP datagram over IPv4.
fn frame() -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let total = (FRAME - ETHERNET) as u16;
    // Version and header length; protocol.
    (frame[ETHERNET], frame[ETHERNET + 9]) = (0x45, 17);
    frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&total.to_be_bytes());
    frame[ETHERNET + 24..ETHERNET + 26].copy_from_slice(&(total - 20).to_be_bytes());
    frame
}
