//! The eBPF programs one packet at a time: frame in, verdict, frame and every counter out.

mod decap;
mod encap;
mod harness;
mod lately;
mod learning;
mod network;
mod port;
mod qos;
mod reference;
mod respond;
mod security;
mod tables;
mod too_big;
mod trunk;
mod vlan;
mod xdp;
