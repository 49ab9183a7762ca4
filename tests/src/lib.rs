//! What Overlane's privileged tests and its demo are made of: hosts and machines as network namespaces ([`lab`]), real
//! taps ([`tap`]) and packets ([`packet`]).

pub mod lab;
pub mod neutron;
pub mod packet;
pub mod tap;
pub mod wait;
