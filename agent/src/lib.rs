//! The overlane agent: adapters at the edges, wired in [`run`].

mod backoff;
pub mod cli;
pub mod config_check;
pub mod control;
pub mod datapath;
pub mod detach;
mod drift;
pub mod files;
mod flow_log;
mod folder_watch;
mod grace;
pub mod host;
mod host_view;
pub mod instance;
pub mod kernel;
pub mod logs;
pub mod reconcile;
pub mod report;
pub mod run;
pub mod services;
pub mod show;
pub mod status;
mod step;
mod takeover;
pub mod verify;
