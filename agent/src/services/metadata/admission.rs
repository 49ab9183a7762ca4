//! How many connections there may be, so that no machine takes the service from others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Connections of one address to one socket. A machine that boots uses one or two.
pub(super) const PER_SOURCE_MAX: usize = 16;
/// Connections to one socket: a network, or the networks of a router.
const PER_SOCKET_MAX: usize = 256;
/// Connections to all sockets: what bounds the memory of this process.
const TOTAL_MAX: usize = 4096;

/// Counts the connections of one socket.
pub(super) struct Admission {
    total: Arc<AtomicUsize>,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// As long as this lives, its connection counts.
pub(super) struct Ticket {
    source: IpAddr,
    total: Arc<AtomicUsize>,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Admission {
    /// For a socket of a service that counts its connections in `total`.
    pub(super) fn new(total: Arc<AtomicUsize>) -> Self {
        Self { total, sources: Arc::default() }
    }

    /// Takes a connection in, unless there are too many.
    pub(super) fn admit(&self, source: IpAddr) -> Option<Ticket> {
        // The counts are replaced whole: a panic elsewhere leaves them as good as they were.
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.get(&source).copied().unwrap_or_default();
        let on_socket: usize = sources.values().sum();
        let total = self.total.load(Ordering::Relaxed);
        if count >= PER_SOURCE_MAX || on_socket >= PER_SOCKET_MAX || total >= TOTAL_MAX {
            return None;
        }
        sources.insert(source, count + 1);
        self.total.fetch_add(1, Ordering::Relaxed);
        Some(Ticket { source, total: Arc::clone(&self.total), sources: Arc::clone(&self.sources) })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.total.fetch_sub(1, Ordering::Relaxed);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_source_has_a_share_of_its_own_and_gets_it_back() {
        let admission = Admission::new(Arc::default());
        let mut tickets: Vec<Ticket> = (0..PER_SOURCE_MAX).filter_map(|_| admission.admit(source(1))).collect();
        assert_eq!((tickets.len(), admission.admit(source(1)).is_none()), (PER_SOURCE_MAX, true));
        assert!(admission.admit(source(2)).is_some(), "another one is not held up by it");
        tickets.pop();
        assert!(admission.admit(source(1)).is_some());
    }

    #[test]
    fn a_socket_and_the_process_have_limits_too() {
        let total = Arc::new(AtomicUsize::new(0));
        let one = Admission::new(Arc::clone(&total));
        let tickets: Vec<Ticket> = (0..1000).filter_map(|number| one.admit(source(number))).collect();
        assert_eq!(tickets.len(), PER_SOCKET_MAX);
        let other = Admission::new(Arc::clone(&total));
        assert!(other.admit(source(1)).is_some());
        total.store(TOTAL_MAX, Ordering::Relaxed);
        assert!(other.admit(source(1)).is_none());
    }
}
