//! What XDP has redirected to a tap, before the tap gets it: such packets pass no other hook.

use overlane_abi::{Outcome, Port};

use crate::{buffer::Buffer as _, maps, security, verdict::Verdict, xdp::XdpBuff};

/// Lets the packet in, or not, as [`crate::to_port`] does.
#[inline(always)]
pub fn admit(buff: XdpBuff) -> Verdict {
    let Some(port) = maps::port(buff.ifindex()) else {
        return security::at_unknown_port();
    };
    if port.flags & Port::FILTERED != 0
        && let Err(reason) = security::admit_received(buff, port)
    {
        return Verdict::Drop(reason);
    }
    Verdict::Pass(Outcome::Admitted)
}
