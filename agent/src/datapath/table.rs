//! Maps whose entries are read, put and deleted many at a time: `BPF_MAP_*_BATCH` of bpf(2), which aya does not have.
//!
//! Hashes and tries have had batches since kernel 5.16 at the latest. A map of a kind that has none is gone through entry by entry; that
//! is found out at the first try. (Kernel sources: `bpf_map_do_batch` in `kernel/bpf/syscall.c`.)

use std::{
    io, iter,
    marker::PhantomData,
    mem::MaybeUninit,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicBool, Ordering},
};

use aya::{
    Pod,
    maps::{Map, MapData, MapError},
    sys::SyscallError,
};
use nix::libc;

use super::DatapathError;

/// What has become of each of several steps, in their order.
pub type Results = Vec<Result<(), DatapathError>>;

/// Entries or keys as their map has them, out of some that are all of one kind: this one.
macro_rules! all_of {
    ($entries:expr, $kind:pat => $typed:expr) => {
        $entries.iter().filter_map(|entry| match *entry {
            $kind => Some($typed),
            _ => None,
        })
    };
}
pub(super) use all_of;

/// Entries that are read at once.
const READ_AT_ONCE: usize = 1024;

/// What the kernel says of a command that a kind of map does not have: its own `ENOTSUPP`, which is in no header for programs.
const NOT_SUPPORTED: i32 = 524;

/// A hash or a trie: entries by key.
#[derive(Debug)]
pub struct Table<K, V> {
    name: &'static str,
    map: MapData,
    /// As far as is known.
    has_batches: AtomicBool,
    entries: PhantomData<(K, V)>,
}

/// Commands of bpf(2), from `enum bpf_cmd` of the kernel's `uapi/linux/bpf.h`.
#[derive(Clone, Copy)]
enum Command {
    Lookup = 1,
    Update = 2,
    Delete = 3,
    GetNextKey = 4,
    LookupBatch = 24,
    UpdateBatch = 26,
    DeleteBatch = 27,
}

impl Command {
    fn error(self, io_error: io::Error) -> MapError {
        let call = match self {
            Self::Lookup => "bpf_map_lookup_elem",
            Self::Update => "bpf_map_update_elem",
            Self::Delete => "bpf_map_delete_elem",
            Self::GetNextKey => "bpf_map_get_next_key",
            Self::LookupBatch => "bpf_map_lookup_batch",
            Self::UpdateBatch => "bpf_map_update_batch",
            Self::DeleteBatch => "bpf_map_delete_batch",
        };
        MapError::SyscallError(SyscallError { call, io_error })
    }
}

/// The part of `union bpf_attr` that commands on one entry read; addresses of what the command needs, or null.
#[repr(C)]
#[derive(Default)]
struct One {
    map: u32,
    pad: u32,
    key: u64,
    /// Or of the next key.
    value: u64,
    flags: u64,
}

/// The part that commands on many entries read, and write `count` of.
#[repr(C)]
#[derive(Default)]
struct Many {
    /// Where reading goes on; null at the beginning.
    position: u64,
    /// Where it will go on after this.
    next_position: u64,
    keys: u64,
    values: u64,
    /// How many entries there are, or is room for; afterwards, how many the kernel has gone through.
    count: u32,
    map: u32,
    entry_flags: u64,
    flags: u64,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// A map of this name.
    ///
    /// # Errors
    /// [`MapError`] when it has no keys, or keys or values of another size.
    pub fn new(name: &'static str, map: Map) -> Result<Self, MapError> {
        let map = match map {
            // The kernel has no batches for devices.
            Map::HashMap(map) | Map::LruHashMap(map) | Map::LpmTrie(map) | Map::DevMapHash(map) => map,
            _ => return Err(MapError::InvalidName { name: name.to_owned() }),
        };
        let info = map.info()?;
        match (info.key_size() as usize, info.value_size() as usize) {
            (expected, _) if expected != size_of::<K>() => {
                Err(MapError::InvalidKeySize { size: size_of::<K>(), expected })
            }
            (_, expected) if expected != size_of::<V>() => {
                Err(MapError::InvalidValueSize { size: size_of::<V>(), expected })
            }
            _ => Ok(Self { name, map, has_batches: AtomicBool::new(true), entries: PhantomData }),
        }
    }

    /// All entries, in arbitrary order. What others put or delete meanwhile may be among them or not.
    ///
    /// # Errors
    /// [`DatapathError`] when the kernel refuses.
    pub fn read<C: FromIterator<(K, V)>>(&self) -> Result<C, DatapathError> {
        if self.has_batches() {
            match self.read_in_batches() {
                Ok((keys, values)) => return Ok(keys.into_iter().zip(values).collect()),
                Err(error) if self.lacks_batches(&error) => (),
                Err(error) => return Err(self.error(Command::LookupBatch, error)),
            }
        }
        self.read_one_by_one()
    }

    /// Inserts or replaces entries, in order; each has its own result.
    pub fn put(&mut self, entries: impl IntoIterator<Item = (K, V)>) -> Results {
        let (keys, values): (Vec<K>, Vec<V>) = entries.into_iter().unzip();
        let put = DatapathError::put(self.name);
        self.change([Command::Update, Command::UpdateBatch], &keys, Some(&values), |command, error| {
            Err(put(command.error(error)))
        })
    }

    /// Deletes entries, in order; each has its own result, and gone-already is success.
    pub fn delete(&mut self, keys: impl IntoIterator<Item = K>) -> Results {
        let keys: Vec<K> = keys.into_iter().collect();
        self.change([Command::Delete, Command::DeleteBatch], &keys, None, |command, error| match error.raw_os_error() {
            Some(libc::ENOENT) => Ok(()),
            _ => Err(self.error(command, error)),
        })
    }

    /// Deletes all entries.
    ///
    /// # Errors
    /// [`DatapathError`] when the kernel refuses.
    pub fn clear(&mut self) -> Result<(), DatapathError> {
        let entries: Vec<(K, V)> = self.read()?;
        self.delete(entries.into_iter().map(|(key, _)| key)).into_iter().collect()
    }

    /// Does the same to every entry. The kernel goes through a batch until it refuses an entry, and says how far it has come: that one
    /// has its error `judged`, and the next batch begins behind it.
    fn change(
        &self,
        [one, many]: [Command; 2],
        keys: &[K],
        values: Option<&[V]>,
        judged: impl Fn(Command, io::Error) -> Result<(), DatapathError>,
    ) -> Results {
        let mut results = Vec::with_capacity(keys.len());
        let mut in_batches = self.has_batches();
        while results.len() < keys.len() {
            let left = &keys[results.len()..];
            let values_left = values.map(|values| &values[results.len()..]);
            if !in_batches {
                let mut attributes = One { key: address(left), value: values_left.map_or(0, address), ..self.one() };
                // SAFETY: the kernel reads one key, and one value if the command takes one; there are as many values as keys.
                let result = unsafe { call(one, &mut attributes) };
                results.push(result.or_else(|error| judged(one, error)));
                continue;
            }
            let mut attributes = Many { values: values_left.map_or(0, address), ..self.many(left.len()) };
            attributes.keys = address(left);
            // SAFETY: the kernel reads `count` keys, which is how many are left, and as many values if the command takes some.
            let result = unsafe { call(many, &mut attributes) };
            let done = attributes.count as usize;
            match result {
                Ok(()) => results.resize_with(keys.len(), || Ok(())),
                Err(error) if done < left.len() => {
                    results.resize_with(results.len() + done, || Ok(()));
                    results.push(judged(many, error));
                }
                // It has not even begun: one by one these may go.
                Err(error) => {
                    self.lacks_batches(&error);
                    in_batches = false;
                }
            }
        }
        results
    }

    fn read_in_batches(&self) -> io::Result<(Vec<K>, Vec<V>)> {
        let (mut keys, mut values): (Vec<K>, Vec<V>) = (Vec::new(), Vec::new());
        // The number of a hash's bucket, or a trie's key.
        let mut position = vec![0_u8; size_of::<K>().max(size_of::<u32>())];
        let next_position = position.as_mut_ptr() as u64;
        let (mut begun_at, mut room) = (0, READ_AT_ONCE);
        loop {
            keys.reserve(room);
            values.reserve(room);
            let mut attributes = Many { position: begun_at, next_position, ..self.many(room) };
            attributes.keys = keys.spare_capacity_mut().as_mut_ptr() as u64;
            attributes.values = values.spare_capacity_mut().as_mut_ptr() as u64;
            // SAFETY: the kernel writes no more than `count` keys and values, for which there is room, and where it has come to, which
            // is no longer than a key or a number.
            let result = unsafe { call(Command::LookupBatch, &mut attributes) };
            let is_end = match result {
                Ok(()) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                // The entries of a bucket come together, and these are more than there was room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    room *= 2;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let read = attributes.count as usize;
            // SAFETY: so many the kernel has written, and any bytes are a key or a value.
            unsafe {
                keys.set_len(keys.len() + read);
                values.set_len(values.len() + read);
            }
            if is_end {
                return Ok((keys, values));
            }
            begun_at = next_position;
        }
    }

    fn read_one_by_one<C: FromIterator<(K, V)>>(&self) -> Result<C, DatapathError> {
        let mut last: Option<K> = None;
        let next = || {
            let (mut key, mut value) = (MaybeUninit::<K>::uninit(), MaybeUninit::<V>::uninit());
            loop {
                let last_key = last.as_ref().map_or(0, |key| (&raw const *key) as u64);
                let mut attributes = One { key: last_key, value: key.as_mut_ptr() as u64, ..self.one() };
                // SAFETY: the kernel reads one key, and writes another one.
                match unsafe { call(Command::GetNextKey, &mut attributes) } {
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return None,
                    Err(error) => return Some(Err(self.error(Command::GetNextKey, error))),
                    // SAFETY: the kernel has written it, and any bytes are a key.
                    Ok(()) => last = Some(unsafe { key.assume_init() }),
                }
                let mut attributes = One { key: key.as_ptr() as u64, value: value.as_mut_ptr() as u64, ..self.one() };
                // SAFETY: the kernel reads one key, and writes one value.
                match unsafe { call(Command::Lookup, &mut attributes) } {
                    // It has gone since.
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => (),
                    Err(error) => return Some(Err(self.error(Command::Lookup, error))),
                    // SAFETY: the kernel has written both, and any bytes are a key or a value.
                    Ok(()) => return Some(Ok(unsafe { (key.assume_init(), value.assume_init()) })),
                }
            }
        };
        iter::from_fn(next).collect()
    }

    fn one(&self) -> One {
        One { map: self.map.fd().as_fd().as_raw_fd() as u32, ..One::default() }
    }

    fn many(&self, count: usize) -> Many {
        Many { map: self.map.fd().as_fd().as_raw_fd() as u32, count: count as u32, ..Many::default() }
    }

    fn has_batches(&self) -> bool {
        self.has_batches.load(Ordering::Relaxed)
    }

    /// Whether this is how the kernel says that it has no batches, for maps of this kind or for any; remembers it.
    fn lacks_batches(&self, error: &io::Error) -> bool {
        let lacks = matches!(error.raw_os_error(), Some(NOT_SUPPORTED | libc::EINVAL | libc::EOPNOTSUPP));
        self.has_batches.fetch_and(!lacks, Ordering::Relaxed);
        lacks
    }

    fn error(&self, command: Command, error: io::Error) -> DatapathError {
        DatapathError::map(self.name)(command.error(error))
    }
}

fn address<T>(entries: &[T]) -> u64 {
    entries.as_ptr() as u64
}

/// Calls bpf(2).
///
/// # Safety
/// The attributes must be those of the command, and what they point to must be there for the kernel to read or write.
// SAFETY: whoever calls it promises that, and says why at the call.
unsafe fn call<A>(command: Command, attributes: &mut A) -> io::Result<()> {
    let (command, attributes) = (command as libc::c_long, &raw mut *attributes);
    // SAFETY: as the caller has promised.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
