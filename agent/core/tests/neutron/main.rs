//! Messages of Neutron: captured ones are understood whole, broken and hostile ones are refused without harm.

mod captures;
mod envelope;
mod hostile;
mod lenient;
mod notifications;
mod rules;
