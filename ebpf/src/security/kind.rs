//! What a packet does to its flow.

/// What a packet does to its flow.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UDP, and every protocol that nothing more is known of.
    Datagram,
    /// TCP.
    Syn,
    SynAck,
    Ack,
    Fin,
    Rst,
    /// TCP flags that nobody sends: none, or a SYN that ends a connection.
    Nonsense,
    EchoRequest,
    EchoReply,
    /// An ICMP or ICMPv6 error, about a packet that it quotes.
    IcmpError,
    /// ICMP and ICMPv6 that belongs to no flow.
    IcmpOther,
    /// A fragment without a transport header.
    LaterFragment,
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// ICMP types (RFC 792).
const ECHO_REPLY_V4: u8 = 0;
const UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
pub const ECHO_REQUEST_V4: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// ICMPv6 types (RFC 4443): all below this one are errors.
pub const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

impl Kind {
    #[inline(always)]
    pub fn of_tcp(flags: u8) -> Self {
        match flags & (SYN | ACK | FIN | RST) {
            ACK => Self::Ack,
            SYN => Self::Syn,
            flags if flags == SYN | ACK => Self::SynAck,
            flags if flags == FIN | ACK => Self::Fin,
            flags if flags & SYN == 0 && flags & RST != 0 && flags & FIN == 0 => Self::Rst,
            _ => Self::Nonsense,
        }
    }

    #[inline(always)]
    pub fn of_icmp(is_v6: bool, kind: u8) -> Self {
        match (is_v6, kind) {
            (false, ECHO_REQUEST_V4) | (true, ECHO_REQUEST_V6) => Self::EchoRequest,
            (false, ECHO_REPLY_V4) | (true, ECHO_REPLY_V6) => Self::EchoReply,
            (false, UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM) => Self::IcmpError,
            (true, ..ECHO_REQUEST_V6) => Self::IcmpError,
            _ => Self::IcmpOther,
        }
    }
}
