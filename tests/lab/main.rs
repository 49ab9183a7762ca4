//! Hosts as network namespaces, real agents, real packets.

mod lifecycle;
