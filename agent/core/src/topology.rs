//! Topology file.
