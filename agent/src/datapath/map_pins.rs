//! The maps' pins: what commands, the next agent and `bpftool` find the maps by.

use std::{
    io,
    path::{Path, PathBuf},
};

use aya::maps::MapData;
use overlane_abi::names;

use super::DatapathError;

/// Every map once more, also those that only programs use: what a pin can be made of when somebody has removed it.
pub(super) struct MapPins(Vec<(PathBuf, MapData)>);

impl MapPins {
    /// Opens what has just been pinned in `directory`.
    pub(super) fn open(directory: &Path) -> Result<Self, DatapathError> {
        let open = |name| {
            let pin = directory.join(name);
            MapData::from_pin(&pin).map(|map| (pin, map)).map_err(DatapathError::map(name))
        };
        names::MAPS.into_iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Makes those again that are gone.
    pub(super) fn restore(&self) -> Result<(), DatapathError> {
        for (pin, map) in self.0.iter().filter(|(pin, _)| !pin.exists()) {
            map.pin(pin).map_err(|error| DatapathError::pins(pin)(io::Error::other(error)))?;
            tracing::warn!(pin = %pin.display(), "somebody has removed the pin of a map: pinned again");
        }
        Ok(())
    }
}
