//! Queueing disciplines at the roots of devices: what holds the machine behind a tap to a limit of what it receives.

use std::{collections::BTreeMap, io};

use overlane_core::qos::{Qdisc, QdiscKind, Tbf};
use rtnetlink::{
    packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_REPLACE, Nla as _, NlasIterator},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcHandle, TcMessage, TcOption},
    },
};

use super::{Kernel, KernelError, error::unless, link::is_gone};

/// The kernel's name for a token bucket filter.
pub(super) const TBF: &str = "tbf";

/// `TCA_TBF_PARMS` and `TCA_TBF_RATE64` in the kernel's `uapi/linux/pkt_sched.h`.
const PARAMETERS: u16 = 1;
const RATE_64: u16 = 4;
/// `TC_LINKLAYER_ETHERNET`.
const ETHERNET: u8 = 1;

/// Where `struct tc_tbf_qopt` has its fields, and how long it is.
const LINK_LAYER_AT: usize = 1;
const RATE_AT: usize = 8;
const LIMIT_AT: usize = 24;
const BUFFER_AT: usize = 28;
const PARAMETERS_LEN: usize = 36;

impl Kernel {
    /// What somebody has put at the root of a device, by interface index. What the kernel puts there by itself is left out.
    pub(super) fn list_qdiscs(&self) -> Result<BTreeMap<u32, Qdisc>, KernelError> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let qdiscs = self.list(request, |answer| match answer {
            RouteNetlinkMessage::NewQueueDiscipline(message) => parse(&message),
            _ => None,
        });
        Ok(qdiscs.map_err(KernelError::list("queueing disciplines"))?.into_iter().collect())
    }

    /// Limits what a device sends, in the place of whatever does so now.
    pub(super) async fn set_limit(&self, ifindex: u32, name: &str, tbf: &Tbf) -> Result<(), KernelError> {
        let message = RouteNetlinkMessage::NewQueueDiscipline(limit(ifindex, tbf));
        let result = self.change(message, NLM_F_CREATE | NLM_F_REPLACE).await;
        result.map_err(KernelError::request("limiting what is received behind", name))
    }

    /// Removes the limit with a handle, if it is there.
    pub(super) async fn remove_limit(&self, ifindex: u32, name: &str, handle: u16) -> Result<(), KernelError> {
        let result = self.change(RouteNetlinkMessage::DelQueueDiscipline(message(ifindex, handle)), 0).await;
        let result = if is_gone(&result) { Ok(()) } else { unless(io::ErrorKind::NotFound, result) };
        result.map_err(KernelError::request("removing the limit of", name))
    }
}

fn message(ifindex: u32, handle: u16) -> TcMessage {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message.header.handle = TcHandle { major: handle, minor: 0 };
    message
}

fn limit(ifindex: u32, tbf: &Tbf) -> TcMessage {
    let mut message = message(ifindex, Qdisc::OURS);
    message.attributes = vec![TcAttribute::Kind(TBF.to_owned()), TcAttribute::Options(options(tbf))];
    message
}

fn options(tbf: &Tbf) -> Vec<TcOption> {
    let mut parameters = vec![0; PARAMETERS_LEN];
    parameters[LINK_LAYER_AT] = ETHERNET;
    let numbers =
        [(RATE_AT, u32::try_from(tbf.rate).unwrap_or(u32::MAX)), (LIMIT_AT, tbf.limit), (BUFFER_AT, tbf.buffer)];
    for (at, number) in numbers {
        parameters[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    let parameters = TcOption::Other(DefaultNla::new(PARAMETERS, parameters));
    // What has no room in 32 bits.
    let rate_64 = u32::try_from(tbf.rate).is_err().then(|| DefaultNla::new(RATE_64, tbf.rate.to_ne_bytes().to_vec()));
    [parameters].into_iter().chain(rate_64.map(TcOption::Other)).collect()
}

fn parse(message: &TcMessage) -> Option<(u32, Qdisc)> {
    let handle = message.header.handle.major;
    // What nobody has chosen has no handle.
    if message.header.parent != TcHandle::ROOT || handle == 0 {
        return None;
    }
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    })?;
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let tbf = options.filter(|_| kind == TBF).and_then(|options| parse_tbf(options));
    let kind = tbf.map_or_else(|| QdiscKind::Other(kind.to_owned()), QdiscKind::Tbf);
    Some((message.header.index.cast_unsigned(), Qdisc { handle, kind }))
}

/// The crate leaves the options of kinds that it does not know as they came: as one attribute, with the others in it.
fn parse_tbf(options: &[TcOption]) -> Option<Tbf> {
    let [options] = options else { return None };
    let mut bytes = vec![0; options.value_len()];
    options.emit_value(&mut bytes);
    let value = |kind: u16| {
        let option = NlasIterator::new(bytes.as_slice()).flatten().find(|option| option.kind() == kind)?;
        Some(option.value().to_vec())
    };
    let parameters = value(PARAMETERS)?;
    let number = |at: usize| Some(u32::from_ne_bytes(*parameters.get(at..)?.first_chunk()?));
    let rate_64 = value(RATE_64).and_then(|bytes| Some(u64::from_ne_bytes(*bytes.first_chunk()?)));
    let rate = rate_64.or_else(|| number(RATE_AT).map(u64::from))?;
    Some(Tbf { rate, buffer: number(BUFFER_AT)?, limit: number(LIMIT_AT)? })
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{Emitable as _, Parseable as _};

    use super::*;

    #[test]
    fn a_filter_is_read_back_as_it_was_written_whatever_its_rate() {
        for rate in [125, u64::from(u32::MAX), 5_000_000_000] {
            let tbf = Tbf { rate, buffer: 78_125, limit: 250_000 };
            let message = limit(7, &tbf);
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);
            let read = TcMessage::parse(bytes.as_slice()).expect("a message");
            assert_eq!(parse(&read), Some((7, Qdisc { handle: Qdisc::OURS, kind: QdiscKind::Tbf(tbf) })));
        }
    }
}
