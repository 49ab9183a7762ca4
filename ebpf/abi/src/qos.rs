//! Quality of service: what a port may send, and how its packets are marked.

use crate::map_types;

map_types! {
    /// Value of the `qos` map; the key is the interface index of the tap. Only ports with [`crate::Port::QOS`] are looked up.
    pub struct Qos: 16 {
        /// [`Qos::LIMITED`], [`Qos::MARKED`], or both.
        pub flags: u32,
        /// How much the port may send, in kilobits (1000 bits) per second.
        pub rate_kbps: u32,
        /// How much it may send at once, in kilobits.
        pub burst_kbit: u32,
        /// The DSCP of what it sends, 0 to 63.
        pub dscp: u32,
    }
}

impl Qos {
    /// What the port sends is held to `rate_kbps` and `burst_kbit`.
    pub const LIMITED: u32 = 1;
    /// What the port sends gets `dscp`.
    pub const MARKED: u32 = 2;
    /// Size of a value of `buckets` in bytes. It has a lock in it: only programs look inside.
    pub const BUCKET_LEN: usize = 16;
}
