//! What Overlane's privileged tests and its demo are made of: hosts and machines as network namespaces ([`lab`]), real
//! taps ([`tap`], [`superpacket`]), machines with a kernel of their own ([`guest`]), packets ([`packet`]), and random packets under random rules ([`stories`]).

pub mod guest;
pub mod lab;
pub mod metadata;
pub mod neutron;
pub mod packet;
pub mod stories;
pub mod superpacket;
pub mod tap;
pub mod wait;
