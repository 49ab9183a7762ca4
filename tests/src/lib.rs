//! What Overlane's privileged tests and its demo are made of: hosts and machines as network namespaces ([`lab`]), real
//! taps ([`tap`]), packets ([`packet`]), and random packets under random rules ([`stories`]).

pub mod lab;
pub mod neutron;
pub mod packet;
pub mod stories;
pub mod tap;
pub mod wait;
