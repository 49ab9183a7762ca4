//! What is spoken with a Neutron server: oslo.messaging's envelope, and the messages in it as types. No sockets.
//!
//! Sources: `oslo_messaging/_drivers/{common,amqpdriver}.py`, and in Neutron `agent/rpc.py`, `api/rpc/handlers/`,
//! `plugins/ml2/{rpc.py,drivers/l2pop/rpc.py}`. Messages captured from a server of release Zed are in `tests/captures`.

pub mod cloud;
pub mod controller;
pub mod envelope;
pub mod failure;
pub mod groups;
pub mod members;
pub mod messages;
pub mod policies;
pub mod port;
pub mod time;
