//! How the agent asks `probe_room` what a kernel helper does.

/// What `probe_room` is asked, in the packet's priority, and what it answers. Nobody else meets these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe;

impl Probe {
    /// The name of the program.
    pub const PROGRAM: &str = "probe_room";
    /// Make room for an outer IPv4 header.
    pub const GROW: u32 = 1;
    /// Remove it.
    pub const SHRINK: u32 = 2;
    /// The helper has done it.
    pub const DONE: i32 = 0;
    /// The helper has refused.
    pub const REFUSED: i32 = 1;
    /// `BPF_F_ADJ_ROOM_DECAP_L4_UDP`: clear the marks that say that a superpacket is a tunnel's (bpf-next commit 3a39c214fd2c).
    pub const DECAP_L4_UDP: u32 = 1 << 10;
}
