//! What a host does for machines besides connecting them.

pub mod metadata;
