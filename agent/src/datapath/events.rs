//! What the programs tell as it happens.

use std::{fmt, io};

use aya::{
    Ebpf,
    maps::{MapData, MapError, RingBuf},
};
use overlane_abi::{FlowEvent, names};
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes as _;

use super::DatapathError;

/// Flows and drops of logged security groups.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let map = ebpf.take_map(names::EVENTS).ok_or(MapError::InvalidName { name: names::EVENTS.to_owned() });
        let ring = map.and_then(RingBuf::try_from).map_err(DatapathError::map(names::EVENTS))?;
        // SAFETY: the ring owns its descriptor and returns the same one for as long as it lives.
        let ring = unsafe { AsyncFd::register(ring) }.map_err(|error| DatapathError::Events(error.into()))?;
        Ok(Self { ring })
    }

    /// Waits for events and returns all that there are. Cancelling loses none.
    ///
    /// # Errors
    /// When the kernel cannot be waited for.
    pub async fn next(&mut self) -> io::Result<Vec<FlowEvent>> {
        let mut ready = self.ring.readable_mut().await?;
        let mut events = Vec::new();
        while let Some(item) = ready.get_inner_mut().next() {
            events.extend(FlowEvent::read_from_bytes(&item).ok());
        }
        ready.clear_ready();
        Ok(events)
    }
}
