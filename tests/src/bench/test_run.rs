//! `BPF_PROG_TEST_RUN`: programs on frames that nobody has sent.

use std::{
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::libc;
use overlane_tests::packet::Frame;

use crate::bpf::{Hook, bpf};

/// `BPF_PROG_TEST_RUN` of `enum bpf_cmd`, and `BPF_F_TEST_XDP_LIVE_FRAMES`.
const COMMAND: libc::c_long = 10;
const LIVE_FRAMES: u32 = 1 << 1;

/// Lengths of `struct __sk_buff` and `struct xdp_md`, and the offset of the interface in either.
const TC_CONTEXT: usize = 192;
const TC_INTERFACE: usize = 40;
const XDP_CONTEXT: usize = 24;
const XDP_INTERFACE: usize = 12;
const XDP_DATA_END: usize = 4;

/// A program and what it is to run on.
pub(crate) struct TestRun<'a> {
    pub(crate) hook: Hook,
    pub(crate) program: BorrowedFd<'a>,
    pub(crate) frame: &'a Frame,
    /// Where the frame seems to be, in the namespace of the calling thread.
    pub(crate) interface: u32,
}

/// What has come of it.
pub(crate) struct Ran {
    pub(crate) action: i32,
    /// Of one run; by the kernel's clock, which stands still while something else has the CPU.
    pub(crate) time: Duration,
}

impl TestRun<'_> {
    /// Runs it once.
    pub(crate) fn once(&self) -> Result<Ran> {
        self.run(1, 0, 0)
    }

    /// Runs it on so many copies of the frame, `batch` of them at a time, each of which goes where the program says.
    pub(crate) fn live(&self, count: u32, batch: u32) -> Result<Ran> {
        self.run(count, LIVE_FRAMES, batch)
    }

    fn run(&self, repeat: u32, flags: u32, batch: u32) -> Result<Ran> {
        /// The part of `union bpf_attr` for this command.
        #[repr(C)]
        #[derive(Default)]
        struct Attributes {
            program: u32,
            result: u32,
            frame_len: u32,
            output_len: u32,
            frame: u64,
            output: u64,
            repeat: u32,
            nanos: u32,
            context_len: u32,
            context_output_len: u32,
            context: u64,
            context_output: u64,
            flags: u32,
            cpu: u32,
            batch: u32,
            pad: u32,
        }
        let context = self.context();
        let mut attributes = Attributes {
            program: self.program.as_raw_fd() as u32,
            frame_len: self.frame.0.len() as u32,
            frame: self.frame.0.as_ptr() as u64,
            repeat,
            context_len: context.len() as u32,
            context: context.as_ptr() as u64,
            flags,
            batch,
            ..Attributes::default()
        };
        // SAFETY: frame and context outlive the call.
        unsafe { bpf(COMMAND, &mut attributes) }.context("running a program")?;
        Ok(Ran { action: attributes.result as i32, time: Duration::from_nanos(attributes.nanos.into()) })
    }

    fn context(&self) -> Vec<u8> {
        let mut context = vec![0; if self.hook == Hook::Xdp { XDP_CONTEXT } else { TC_CONTEXT }];
        let mut put = |offset: usize, value: u32| context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        if self.hook == Hook::Xdp {
            put(XDP_DATA_END, self.frame.0.len() as u32);
            put(XDP_INTERFACE, self.interface);
        } else {
            put(TC_INTERFACE, self.interface);
        }
        context
    }
}
