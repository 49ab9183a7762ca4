//! The law of the plan: applied until nothing is left, it leads to what is desired, and touches nothing of others.

mod changes;
mod compiled;
mod compute_taps;
mod conflicts;
mod goldens;
mod groups;
mod laws;
mod moving;
mod qos;
mod simulated;
mod together;
mod trunks;
mod unknown_members;
mod vlan;
mod xdp;
