//! Control planes: each turns what it knows into a stream of [`overlane_core::desired::Desired`].

pub mod file;
pub mod neutron;
