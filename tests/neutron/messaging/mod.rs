//! Messaging with a real broker, and with oslo.messaging at the other end.

mod agent;
mod calls;
mod loss;
mod modes;
mod refusals;
mod relay;
