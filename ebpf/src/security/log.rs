//! The log of flows: which rule has admitted one, or what was dropped, for ports and rules that ask for it. Without a rate set
//! at load time none of this is in the program.

use overlane_abi::{DropReason, FlowEvent, Port};

use crate::{buffer::Buffer, clock, maps, security::Case};

/// Logs a flow that a rule has admitted.
#[inline(always)]
pub fn admitted(case: &Case<impl Buffer>, rule: u16) {
    if maps::log_rate() != 0 {
        write(case, FlowEvent::ADMITTED, rule);
    }
}

/// Logs a packet that is dropped.
#[inline(always)]
pub fn dropped(case: &Case<impl Buffer>, reason: DropReason) {
    if maps::log_rate() != 0 && case.port.flags & Port::LOG_DROPS != 0 {
        write(case, reason as u16, 0);
    }
}

#[inline(never)]
fn write(case: &Case<impl Buffer>, reason: u16, rule: u16) {
    let Some(budget) = maps::event_budget() else {
        return;
    };
    // SAFETY: the entry is this CPU's own; a program that interrupts this one can only make the count a little wrong.
    let budget = unsafe { &mut *budget };
    let second = case.now / clock::SECOND;
    if budget.second != second {
        (budget.second, budget.used) = (second, 0);
    }
    let packet = case.packet;
    let suppressed = budget.suppressed;
    let is_within = budget.used < maps::log_rate().into();
    if is_within
        && maps::put_event(|event| {
            *event = FlowEvent {
                time: case.now,
                suppressed,
                ifindex: case.ifindex,
                policy: case.port.policy,
                rule,
                reason,
                direction: case.direction as u8,
                protocol: packet.protocol,
                service: packet.service,
                source_port: packet.ports[0],
                pad: [0; 6],
                source: packet.source(),
                destination: packet.destination(),
            };
        })
    {
        budget.used += 1;
        budget.suppressed = 0;
    } else {
        budget.suppressed += 1;
    }
}
