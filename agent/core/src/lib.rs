//! The pure part of Overlane: configuration, model, what is desired of a host, what was observed on it, and the plan
//! that leads from one to the other. No I/O, no clock, no environment.

pub mod action;
pub mod config;
pub mod desired;
pub mod leftovers;
pub mod map_entry;
pub mod model;
pub mod neutron;
pub mod observed;
pub mod offload;
pub mod oslo_ini;
pub mod plan;
pub mod problem;
pub mod qos;
pub mod security;
pub mod services;
pub mod topology;
pub mod update;
pub mod xdp;
