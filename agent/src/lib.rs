//! The overlane agent: adapters at the edges, wired in [`run`].

pub mod datapath;
