//! What the kernel makes of every program of the object: `cargo xtask verifier` runs this and compares it with the budget.
//!
//! A process of its own, without threads: it has no file descriptors to spare for a moment.

use std::{collections::BTreeMap, env, fs, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{Program, ProgramError, ProgramInfo},
    util::KernelVersion,
};
use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};
use overlane_abi::{Address, FlowState, names};
use serde::Serialize;

/// Everything that was found out, as it is printed.
#[derive(Serialize)]
struct Measured {
    /// The kernel that was asked, as `6.18`.
    kernel: String,
    /// By name.
    programs: BTreeMap<String, Measures>,
}

/// A program, as the kernel has taken it.
#[derive(Serialize)]
struct Measures {
    /// Where it runs: `tc` or `xdp`.
    kind: &'static str,
    /// Instructions after the verifier's own rewriting (`xlated_prog_len` of `bpf_prog_info`).
    instructions: u32,
    /// Instructions that the verifier has looked at, each as often as it had to.
    verified: u32,
    /// Bytes of stack, by function; the program's own comes first.
    stack: Vec<u32>,
    /// Bytes of machine code; 0 where the kernel does not tell.
    jited_bytes: u32,
}

fn main() -> Result<()> {
    let path = env::args_os().nth(1).context("usage: overlane-verifier <eBPF object>")?;
    let object = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut ebpf = load(&object)?;
    let measure = |(name, program): (&str, &mut Program)| -> Result<(String, Measures)> {
        let measures = measure(program).with_context(|| format!("loading {name}"))?;
        Ok((name.to_owned(), measures))
    };
    let programs = ebpf.programs_mut().map(measure).collect::<Result<_>>()?;
    let kernel = KernelVersion::current().context("asking for the kernel's version")?.to_string();
    let series = kernel.rsplit_once('.').map_or(kernel.as_str(), |(series, _)| series).to_owned();
    println!("{}", serde_json::to_string(&Measured { kernel: series, programs })?);
    Ok(())
}

/// The object with everything switched on that an agent may switch on, so that the verifier removes nothing, but for the log of a
/// debugger.
fn load(object: &[u8]) -> Result<Ebpf> {
    let (on, log_level, log_rate) = (1_u8, 0_u8, u32::MAX);
    // Of zeros, the verifier would know more than of an address.
    let local_vtep = Address::from_v4([10, 10, 10, 11]).octets;
    let mut loader = EbpfLoader::new();
    for table in [names::CONNTRACK4, names::CONNTRACK6, names::CONNTRACK_NEW4, names::CONNTRACK_NEW6] {
        // Memory for flows that nobody sends.
        loader.map_max_entries(table, 1);
    }
    loader
        .override_global(names::LOCAL_VTEP, &local_vtep, true)
        .override_global(names::FORWARDING, &on, true)
        .override_global(names::CLOSED, &on, true)
        .override_global(names::FLOW_TIMEOUTS, &FlowState::DEFAULT_TIMEOUTS, true)
        .override_global(names::LOG_RATE, &log_rate, true)
        .override_global("AYA_LOG_LEVEL", &log_level, true)
        .verifier_log_level(VerifierLogLevel::STATS)
        .load(object)
        .context("loading the maps")
}

fn measure(program: &mut Program) -> Result<Measures> {
    let statistics = statistics(program)?;
    load_program(program)?;
    let (kind, info) = match program {
        Program::SchedClassifier(program) => ("tc", program.info()),
        Program::Xdp(program) => ("xdp", program.info()),
        other => return Err(unknown(other)),
    };
    let info: ProgramInfo = info.context("asking about the loaded program")?;
    let bytes = info.size_translated().context("the kernel does not say how long the program is")?;
    Ok(Measures {
        kind,
        // Eight bytes each (RFC 9669).
        instructions: bytes / 8,
        verified: statistics.verified,
        stack: statistics.stack,
        jited_bytes: info.size_jitted(),
    })
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::SchedClassifier(program) => program.load(),
        // What it is for, such as a devmap, is in the name of its section.
        Program::Xdp(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn unknown(program: &Program) -> anyhow::Error {
    anyhow::anyhow!("a {:?} program: teach tests/src/verifier how to load one", program.prog_type())
}

/// What the verifier says when it is asked for statistics.
#[derive(Debug, PartialEq, Eq)]
struct Statistics {
    verified: u32,
    stack: Vec<u32>,
}

/// Asks the verifier for its statistics, which the library shows only of programs that cannot be loaded: so it is one that the kernel
/// verifies from end to end and then has no file descriptor for.
fn statistics(program: &mut Program) -> Result<Statistics> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE)?;
    // The lowest free descriptor is the one that a file gets.
    let next = fs::File::open("/dev/null").context("opening a file")?.as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(next)?, limit.1).context("limiting open files")?;
    let refused = load_program(program);
    setrlimit(Resource::RLIMIT_NOFILE, limit.0, limit.1).context("lifting the limit of open files")?;
    match refused {
        Err(ProgramError::LoadError { io_error, verifier_log })
            if io_error.raw_os_error() == Some(Errno::EMFILE as i32) =>
        {
            let log = verifier_log.to_string();
            parse(&log).with_context(|| format!("no statistics in what the verifier says: {log:?}"))
        }
        Err(ProgramError::UnexpectedProgramType) => Err(unknown(program)),
        Err(error) => Err(error.into()),
        Ok(()) => bail!("a program was loaded without a file descriptor"),
    }
}

/// Reads the lines `stack depth 416+0` and `processed 8241 insns (limit …` of the kernel's `print_verification_stats`.
fn parse(log: &str) -> Option<Statistics> {
    let stack = log.lines().find_map(|line| line.strip_prefix("stack depth "))?;
    let verified = log.lines().find_map(|line| line.strip_prefix("processed ")?.split_once(" insns"))?.0;
    let stack = stack.trim().split('+').map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(Statistics { verified: verified.parse().ok()?, stack })
}
