//! A guest's own kernel behind a real tap: virtio-net with its offloads, as the machines of a cloud have it.

mod bed;
mod lease;
mod security_groups;
mod traffic;
