//! Security group rules, compiled for one lookup.
//!
//! A *policy* is what the rules of all groups of a port come to; ports with the same groups share one. Rules only ever admit, so
//! the longest prefix in `rules` that matches a packet decides alone: whoever fills the map repeats in every entry the rules of
//! all entries that cover it.

use crate::{Address, map_types};

/// Remote sides in one entry of the `rules` map. More are merged into a set of their own by whoever fills the map.
pub const MATCHES_MAX: usize = 24;

map_types! {
    /// Key of the `rules` map, behind a prefix length in bits.
    pub struct RuleKey: 8 {
        /// Which policy. Never zero.
        pub policy: u32,
        /// Direction and address family, see [`RuleKey::scope`].
        pub scope: u8,
        /// IP protocol number.
        pub protocol: u8,
        /// TCP, UDP, UDP-Lite, SCTP and DCCP: the destination port. ICMP and ICMPv6: the type, then the code. Other
        /// protocols: zero. In network byte order, for prefixes to make sense.
        pub service_be: [u8; 2],
    }

    /// Value of the `rules` map: what a packet's remote address must be. The first [`Match`] that fits admits the packet;
    /// those of stateful rules come first, unused ones last.
    pub struct RuleSet: 192 {
        /// See [`Match`].
        pub matches: [Match; MATCHES_MAX],
    }

    /// One way to be admitted.
    pub struct Match: 8 {
        /// The remote address must be in this set (the first half of keys of `members` and `member_prefixes`);
        /// [`Match::ANY`]: it may be any address.
        pub set: u32,
        /// Index of the rule in its policy, for hit counters and the log. When [`Match::RULE_OF_MEMBER`] is set, the member's is
        /// used instead.
        pub rule: u16,
        /// [`Match::USED`] and the other flags; 0 ends the list.
        pub flags: u16,
    }

    /// Key of the `members` map, and of `member_prefixes` behind a prefix length in bits: is the address in the set?
    ///
    /// Single addresses are in `members`, real prefixes in `member_prefixes`; their length is [`MemberKey::prefix_len`]. A
    /// set holds addresses of one family.
    pub struct MemberKey: 20 {
        /// Number of the set: a security group's or an address group's addresses of one family, or the prefixes of a
        /// policy's rules that have the same key. Never [`Match::ANY`], and not used again while anything refers to it.
        pub set: u32,
        /// The remote address.
        pub address: Address,
    }

    /// Value of the `members` and `member_prefixes` maps.
    pub struct Member: 4 {
        /// Index of a rule in its policy, where a set belongs to one policy only; otherwise 0.
        pub rule: u32,
    }

    /// Value of the `sets` map, by the number of a set: what the set stands for. The programs do not read it; it lets the
    /// next agent find its sets again.
    pub struct SetName: 24 {
        /// Id of the security group or address group; for [`SetName::PREFIXES`] a digest of the content.
        pub owner: [u8; 16],
        /// [`SetName::SECURITY_GROUP`], [`SetName::ADDRESS_GROUP`] or [`SetName::PREFIXES`].
        pub kind: u8,
        /// 4 or 6.
        pub family: u8,
        /// Always zero.
        pub pad: [u8; 6],
    }

    /// Value of the `policies` map, by the number of a policy. The programs do not read it; it lets the next agent find its
    /// policies again.
    pub struct PolicyName: 16 {
        /// A digest of what the policy consists of.
        pub content: [u8; 16],
    }

    /// Key of the `rule_hits` map; its value is a [`crate::Tally`], per CPU.
    pub struct RuleHitKey: 8 {
        /// Which policy.
        pub policy: u32,
        /// Index of the rule in it.
        pub rule: u32,
    }
}

/// Which way a packet goes, from the port's point of view.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The port sends.
    Egress = 0,
    /// The port receives.
    Ingress = 1,
}

impl Direction {
    /// The other one.
    #[inline(always)]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Egress => Self::Ingress,
            Self::Ingress => Self::Egress,
        }
    }

    /// Neutron's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

impl RuleKey {
    /// Bits of a key for rules about any protocol.
    pub const ANY_PROTOCOL: u32 = 40;
    /// Bits of a key for rules about any port, or any ICMP type, of a protocol.
    pub const ANY_SERVICE: u32 = 48;
    /// Bits of a key for rules about one ICMP type with any code.
    pub const ANY_CODE: u32 = 56;
    /// Bits of a key for rules about one port, or one ICMP type and code.
    pub const WHOLE: u32 = 64;

    /// The value of the field of that name.
    #[inline(always)]
    pub const fn scope(direction: Direction, is_v6: bool) -> u8 {
        (direction as u8) << 1 | is_v6 as u8
    }
}

impl Match {
    /// `set` of a match that takes every remote address.
    pub const ANY: u32 = 0;

    /// There is a match here.
    pub const USED: u16 = 1;
    /// The rule keeps no state: it admits this packet only, and answers need a rule of their own.
    pub const STATELESS: u16 = 2;
    /// The rule is found in the [`Member`].
    pub const RULE_OF_MEMBER: u16 = 4;
    /// Admitted flows are written to the log.
    pub const LOGGED: u16 = 8;

    /// An unused place in a [`RuleSet`].
    pub const UNUSED: Self = Self { set: Self::ANY, rule: 0, flags: 0 };
}

impl SetName {
    /// The addresses of a security group's members.
    pub const SECURITY_GROUP: u8 = 1;
    /// The addresses of an address group.
    pub const ADDRESS_GROUP: u8 = 2;
    /// The remote prefixes of rules, or several sets merged into one.
    pub const PREFIXES: u8 = 3;
}

impl MemberKey {
    /// How many bits of a key count for a prefix of `length` bits in the address's own family.
    pub const fn prefix_len(is_v6: bool, length: u32) -> u32 {
        32 + if is_v6 { 0 } else { 96 } + length
    }
}
