//! The maps of limits and marks of what ports send.

use std::collections::BTreeMap;

use aya::maps::{HashMap, MapData};
use overlane_abi::{Qos, names};

use super::{
    DatapathError,
    maps::{Opener, dump, gone, insert},
};

/// The maps, and what they hold.
pub(super) struct QosMaps {
    qos: HashMap<MapData, u32, Qos>,
    /// Filled by the programs, which alone know what is in it.
    buckets: HashMap<MapData, u32, [u8; Qos::BUCKET_LEN]>,
}

impl QosMaps {
    /// Opens the maps; `None` where agents before this one have left theirs.
    pub(super) fn open(open: &mut Opener<'_>) -> Result<Option<Self>, DatapathError> {
        let qos = open.typed_if_there(names::QOS)?;
        let buckets = open.typed_if_there(names::BUCKETS)?;
        Ok(qos.zip(buckets).map(|(qos, buckets)| Self { qos, buckets }))
    }

    /// What ports are held to.
    pub(super) fn read(&self) -> Result<BTreeMap<u32, Qos>, DatapathError> {
        dump(&self.qos, names::QOS)
    }

    pub(super) fn put(&mut self, ifindex: u32, qos: Qos) -> Result<(), DatapathError> {
        insert(&mut self.qos, names::QOS, ifindex, qos)
    }

    /// Deletes an entry, and what has been used of it, if they are there.
    pub(super) fn delete(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        gone(self.qos.remove(&ifindex), names::QOS)?;
        gone(self.buckets.remove(&ifindex), names::BUCKETS)
    }
}
