//! INI as oslo.config reads it.
