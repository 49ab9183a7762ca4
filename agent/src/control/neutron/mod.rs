//! A Neutron server as a control plane.

pub mod messaging;
