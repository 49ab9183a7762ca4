//! The maps of limits and marks of what ports send.

use std::collections::BTreeMap;

use overlane_abi::{Qos, names};

use super::{DatapathError, maps::Opener, table::Table};

/// The maps, and what they hold.
pub(super) struct QosMaps {
    qos: Table<u32, Qos>,
    /// Filled by the programs, which alone know what is in it.
    buckets: Table<u32, [u8; Qos::BUCKET_LEN]>,
}

impl QosMaps {
    /// Opens the maps; `None` where agents before this one have left theirs.
    pub(super) fn open(open: &mut Opener<'_>) -> Result<Option<Self>, DatapathError> {
        let qos = open.table_if_there(names::QOS)?;
        let buckets = open.table_if_there(names::BUCKETS)?;
        Ok(qos.zip(buckets).map(|(qos, buckets)| Self { qos, buckets }))
    }

    /// What ports are held to.
    pub(super) fn read(&self) -> Result<BTreeMap<u32, Qos>, DatapathError> {
        self.qos.read()
    }

    pub(super) fn put(&mut self, ifindex: u32, qos: Qos) -> Result<(), DatapathError> {
        self.qos.put([(ifindex, qos)]).into_iter().collect()
    }

    /// Deletes an entry, and what has been used of it, if they are there.
    pub(super) fn delete(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        let results = self.qos.delete([ifindex]).into_iter().chain(self.buckets.delete([ifindex]));
        results.collect()
    }
}
