//! Maps as the agent writes and reads them.

use aya::{Pod, maps::lpm_trie::Key};
use overlane::datapath::Table;

use super::Datapath;

/// A key of a trie: a prefix.
pub(crate) type Prefix<K> = Key<K>;

impl Datapath {
    /// Takes a map out, as the agent does; the error in words.
    pub(crate) fn take_table<K: Pod, V: Pod>(&mut self, name: &'static str) -> Result<Table<K, V>, String> {
        let map = self.ebpf.take_map(name).expect("the map exists");
        Table::new(name, map).map_err(|error| error.to_string())
    }
}

/// Every entry, in order; each must come once.
pub(crate) fn read<K: Pod + Ord, V: Pod + Ord>(table: &Table<K, V>) -> Vec<(K, V)> {
    let mut entries: Vec<(K, V)> = table.read().expect("the map can be read");
    entries.sort_unstable();
    assert!(entries.windows(2).all(|pair| pair[0].0 != pair[1].0), "an entry comes twice");
    entries
}

/// As `read`, of a trie, with the lengths of prefixes in bits.
pub(crate) fn read_prefixes<K: Pod + Ord, V: Pod + Ord>(table: &Table<Prefix<K>, V>) -> Vec<((u32, K), V)> {
    let entries: Vec<(Prefix<K>, V)> = table.read().expect("the map can be read");
    let mut entries: Vec<_> =
        entries.into_iter().map(|(prefix, value)| ((prefix.prefix_len(), prefix.data()), value)).collect();
    entries.sort_unstable();
    assert!(entries.windows(2).all(|pair| pair[0].0 != pair[1].0), "an entry comes twice");
    entries
}
