//! The map of devices that XDP may send by.

use std::collections::BTreeMap;

use aya::{
    maps::{MapData, xdp::DevMapHash},
    programs::ProgramFd,
};
use overlane_abi::names;
use overlane_core::xdp::XdpDevice;

use super::{
    DatapathError,
    maps::{Opener, gone},
};

/// The map, and the program that says what is sent to taps.
pub(super) struct XdpDevices {
    map: DevMapHash<MapData>,
    admission: Admission,
}

/// What is known of `to_port_xdp`.
enum Admission {
    /// Nothing: whoever only looks at the map takes the agent's word for it.
    NotOurs,
    /// It has not been needed yet.
    NotLoaded,
    /// The program and its id.
    By(ProgramFd, u32),
}

impl XdpDevices {
    /// Opens the map; `None` where agents before this one have not made it.
    pub(super) fn open(open: &mut Opener<'_>) -> Result<Option<Self>, DatapathError> {
        Ok(open.typed_if_there(names::XDP_DEVICES)?.map(|map| Self { map, admission: Admission::NotOurs }))
    }

    /// The devices, by interface index.
    pub(super) fn read(&self) -> Result<BTreeMap<u32, XdpDevice>, DatapathError> {
        let device = |program: Option<u32>| match (program, &self.admission) {
            (None, _) => XdpDevice::Open,
            (Some(_), Admission::NotOurs) => XdpDevice::Admitted,
            (Some(found), Admission::By(_, id)) if found == *id => XdpDevice::Admitted,
            (Some(_), _) => XdpDevice::Outdated,
        };
        let entries = self.map.iter().map(|entry| {
            let (ifindex, value) = entry?;
            Ok((ifindex, device(value.prog_id.map(Into::into))))
        });
        entries.collect::<Result<_, _>>().map_err(DatapathError::map(names::XDP_DEVICES))
    }

    /// From now on the entries are this process's to keep.
    pub(super) fn take_charge(&mut self) {
        self.admission = Admission::NotLoaded;
    }

    /// Whether `to_port_xdp` is still to be given to [`Self::admit_by`].
    pub(super) fn lacks_admission(&self) -> bool {
        !matches!(self.admission, Admission::By(..))
    }

    /// Has taps be sent only what a program admits.
    pub(super) fn admit_by(&mut self, program: ProgramFd, id: u32) {
        self.admission = Admission::By(program, id);
    }

    /// Lets XDP send by a device.
    pub(super) fn put(&mut self, ifindex: u32, device: XdpDevice) -> Result<(), DatapathError> {
        let program = match (device, &self.admission) {
            (XdpDevice::Open, _) => None,
            (XdpDevice::Admitted | XdpDevice::Outdated, Admission::By(program, _)) => Some(program),
            // Never without: an empty place would let everything through.
            (XdpDevice::Admitted | XdpDevice::Outdated, _) => return Ok(()),
        };
        self.map.insert(ifindex, ifindex, program, 0).map_err(|source| DatapathError::XdpDevice { ifindex, source })
    }

    /// Lets XDP send by a device no longer.
    pub(super) fn delete(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        gone(self.map.remove(ifindex), names::XDP_DEVICES)
    }
}
