//! The metadata service: what a machine that asks 169.254.169.254 is told about itself. Everything here is a function of the
//! [`State`] that the agent writes and of the request; sockets are in the process that serves.

mod answer;
mod directory;
mod ec2;
mod nova;
mod of_topology;
mod openstack;
mod path;
mod state;

pub use answer::Answer;
pub use directory::{Directory, Guest, Stranger};
pub use nova::NovaRequest;
pub(super) use of_topology::process;
pub use state::{Assignment, FixedIp, Instance, Interface, Protocol, Route, Socket, SocketKey, State, Upstream};
