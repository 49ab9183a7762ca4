//! Port security and security groups, rule by rule and packet by packet.

mod arrivals;
mod conntrack;
mod fragments;
mod malformed;
mod neighbor;
mod policy;
mod recent;
mod related;
mod revisions;
mod sources;
mod tcp;
mod world;
