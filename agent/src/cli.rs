//! The command line: what there is, what it prints, how it exits.

use std::{env, ffi::OsString, io, net::IpAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use overlane_core::{config::LogConfig, problem::Problems};

use crate::{
    config_check,
    detach::{self, Extent},
    files::{self, Loaded},
    run,
    services::metadata,
    show, status, verify,
};

/// Something was done, but failed.
const EXIT_FAILURE: u8 = 1;
/// The command line, the configuration or the topology is wrong. (clap uses the same for the command line.)
const EXIT_BAD_INPUT: u8 = 2;

/// Connects the virtual machines of one host: bridges, taps and VXLAN as the Linux bridge agent builds them, with the
/// packet path in eBPF.
#[derive(Parser)]
#[command(
    name = "overlane",
    version,
    after_help = "\
An environment variable OS_<SECTION>__<OPTION>, such as OS_VXLAN__LOCAL_IP or OS_DEFAULT__HOST, wins over the configuration files.

Exit status: 0 done; 1 failed, the reason is on stderr; 2 wrong command line, configuration or topology.

Start here:
  overlane config check --config-file /etc/overlane/overlane.conf
  overlane plan         --config-file /etc/overlane/overlane.conf
  overlane agent        --config-file /etc/overlane/overlane.conf"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent: make the host what the control plane asks for, and keep it so.
    ///
    /// SIGTERM stops the agent and leaves all forwarding in place; the next agent takes over from there.
    Agent {
        #[command(flatten)]
        files: ConfigFiles,
        #[command(flatten)]
        log: Log,
    },
    /// Print what the agent would change on this host, without changing it.
    Plan {
        #[command(flatten)]
        files: ConfigFiles,
        #[command(flatten)]
        output: Output,
    },
    /// Compare what is desired with the kernel and the maps, and explain every difference.
    ///
    /// Exit status 0: everything is as it should be; 1: it is not.
    Verify {
        #[command(flatten)]
        files: ConfigFiles,
        #[command(flatten)]
        output: Output,
    },
    /// Give the host back to the kernel lane: detach every eBPF program that forwards.
    ///
    /// Bridges, vxlan and VLAN devices stay and carry everything; no packet is lost. Ports with security groups stay filtered,
    /// and new taps closed. Where the kernel has no 8021q module, the programs that carry VLANs stay as well. The agent must not
    /// be running.
    Detach {
        /// Also end all filters, the guard of closed taps, and limits: EVERY PORT IS OPEN until another agent filters. No packet is
        /// lost. This is how a host is given to the Linux bridge agent.
        #[arg(long, conflicts_with = "purge")]
        open: bool,
        /// As --open, and delete what Overlane has made, in use or not: bridges, vxlan and VLAN devices, and, with a topology file, the
        /// namespaces of DHCP servers and routers, and the metadata service. Their networks end. NICs get their
        /// addresses and routes back; taps and what Overlane has only adopted stay.
        #[arg(long)]
        purge: bool,
        #[command(flatten)]
        files: ConfigFiles,
    },
    /// Show what is on this host. Works with the agent running, stopped or dead; but what a Neutron server asks for, only a running
    /// agent knows.
    Show {
        /// What to show.
        #[arg(value_enum)]
        subject: show::Subject,
        /// Only this port: its id, the beginning of it, or the name of its tap (flows, rules, drops).
        #[arg(long, value_name = "PORT")]
        port: Option<String>,
        /// Only flows from or to this address.
        #[arg(long, value_name = "ADDRESS")]
        address: Option<IpAddr>,
        #[command(flatten)]
        files: ConfigFiles,
        #[command(flatten)]
        output: Output,
    },
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Serve metadata to machines, as the agent describes it in a file.
    ///
    /// The agent starts this process by itself, and it goes on without the agent.
    #[command(hide = true)]
    Metadata {
        /// Where to listen, and who may ask: JSON, read again whenever it changes.
        #[arg(long, value_name = "FILE")]
        state: PathBuf,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the configuration and the topology: every problem with its file and line, or what will be used.
    Check(ConfigFiles),
}

#[derive(Args)]
struct ConfigFiles {
    /// Configuration file in oslo.config's INI format, such as Neutron's; may be given several times, later files win. Without
    /// any: those of the running agent, or else /etc/overlane/overlane.conf.
    #[arg(long = "config-file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Directory whose *.conf files are read after those, in the order of their names; may be given several times.
    #[arg(long = "config-dir", value_name = "DIRECTORY")]
    directories: Vec<PathBuf>,
}

/// The options about logs that the services of Linux distributions give to Neutron's agents.
#[derive(Args)]
struct Log {
    /// Write the log to this file instead of stderr, as [DEFAULT] log_file does. It may be moved away at any time.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Directory of the log file, as [DEFAULT] log_dir; the file is called overlane.log unless it is named.
    #[arg(long, value_name = "DIRECTORY")]
    log_dir: Option<PathBuf>,
    /// Log more, as [DEFAULT] debug does.
    #[arg(long)]
    debug: bool,
}

impl ConfigFiles {
    /// As they are named, for the agent itself.
    fn load(&self) -> Result<Loaded, Problems> {
        self.load_or(|| None)
    }

    /// As the running agent has read them, unless some are named.
    fn load_as_agent(&self) -> Result<Loaded, Problems> {
        self.load_or(|| match status::Agent::ask() {
            status::Agent::Running(status) if !status.config_files.is_empty() => Some(status.config_files),
            _ => None,
        })
    }

    fn load_or(&self, default: impl FnOnce() -> Option<Vec<PathBuf>>) -> Result<Loaded, Problems> {
        let files = if self.files.is_empty() && self.directories.is_empty() {
            default().unwrap_or_else(files::default)
        } else {
            files::named(&self.files, &self.directories)?
        };
        // What is no text stands for no option that is known.
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let environment: Vec<_> = env::vars_os().filter_map(text).collect();
        files::load(&files, &environment)
    }
}

impl Log {
    /// Each option wins over that of the configuration.
    fn override_in(self, log: &mut LogConfig) {
        if self.log_file.is_some() || self.log_dir.is_some() {
            log.named_by = None;
        }
        log.file = self.log_file.or(log.file.take());
        log.directory = self.log_dir.or(log.directory.take());
        log.debug |= self.debug;
    }
}

#[derive(Args)]
struct Output {
    /// A table for people, or JSON for programs.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns.
    Table,
    /// One JSON document.
    Json,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Problems>() {
            Some(problems) => {
                eprintln!("{problems}");
                ExitCode::from(EXIT_BAD_INPUT)
            }
            None if is_broken_pipe(&error) => ExitCode::SUCCESS,
            None => {
                eprintln!("overlane: {error:#}");
                ExitCode::from(EXIT_FAILURE)
            }
        },
    }
}

/// `overlane show … | head` is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Agent { files, log } => {
            let mut loaded = files.load()?;
            log.override_in(&mut loaded.config.log);
            run::agent(&loaded)
        }
        Command::Plan { files, output } => {
            let view = show::View::observe(&files.load_as_agent()?)?;
            show::plan(&view, output.output, &mut io::stdout().lock())
        }
        Command::Verify { files, output } => {
            let view = show::View::observe(&files.load_as_agent()?)?;
            let differences = verify::verify(&view, output.output, &mut io::stdout().lock())?;
            anyhow::ensure!(differences == 0, "{differences} differences");
            Ok(())
        }
        Command::Detach { open, purge, files } => {
            let extent = match (open, purge) {
                (_, true) => Extent::Everything,
                (true, false) => Extent::Filters,
                (false, false) => Extent::Forwarding,
            };
            detach::detach(&files.load_as_agent()?, extent, &mut io::stdout().lock())
        }
        Command::Show { subject, port, address, files, output } => {
            let view = show::View::observe_anyway(&files.load_as_agent()?)?;
            show::show(subject, &show::Selection { port, address }, &view, output.output, &mut io::stdout().lock())
        }
        Command::Metadata { state } => metadata::serve(&state),
        Command::Config(ConfigCommand::Check(files)) => config_check::check(&files.load()?, &mut io::stdout().lock()),
    }
}
