//! Real sockets in machines: connections, requests and streams, and what the path between two machines makes of them.

mod connections;
mod requests;
mod streams;

pub(crate) use connections::Connections;
pub(crate) use requests::{Requests, Transport};
pub(crate) use streams::{Bulk, Kind, Streams};
