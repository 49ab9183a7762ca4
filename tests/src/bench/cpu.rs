//! Who has which CPU: what is measured happens on one.

use std::{panic, thread};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    libc,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Which of the CPUs that this program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cpu {
    /// The one that everything is measured on.
    Last,
    /// Another one, if there is one.
    First,
}

/// Gives the calling thread, and with it what its packets cause, a CPU, before anything else that wants it: else a pause of the
/// thread would look like a slow packet, and queues would overflow meanwhile.
pub(crate) fn take(cpu: Cpu) -> Result<()> {
    choose(cpu)?;
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the kernel only reads the parameters.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    Errno::result(result).context("coming before other programs")?;
    Ok(())
}

/// Calls `work` on a thread that has taken a CPU: the caller stays as it is, with all the programs that it starts.
pub(crate) fn on<T: Send>(cpu: Cpu, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let take_and_work = || {
        take(cpu)?;
        work()
    };
    thread::scope(|scope| match scope.spawn(take_and_work).join() {
        Ok(result) => result,
        Err(panic) => panic::resume_unwind(panic),
    })
}

/// As `take`, with the highest of ordinary priorities: for those that never wait, so that the kernel's own threads have their turn.
pub(crate) fn stay(cpu: Cpu) -> Result<()> {
    const HIGHEST: libc::c_int = -20;
    choose(cpu)?;
    // SAFETY: it takes plain numbers.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, HIGHEST) };
    Errno::result(result).context("coming before most other programs")?;
    Ok(())
}

impl Cpu {
    /// As the kernel counts them.
    pub(crate) fn number(self) -> Result<usize> {
        // Of the whole program, whatever the calling thread has chosen already.
        let allowed = sched_getaffinity(Pid::this()).context("reading the CPUs")?;
        let mut allowed = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        let chosen = if self == Self::First { allowed.next() } else { allowed.next_back() };
        chosen.context("a CPU")
    }
}

/// Keeps the calling thread on a CPU.
fn choose(cpu: Cpu) -> Result<()> {
    let mut one = CpuSet::new();
    one.set(cpu.number()?).context("choosing a CPU")?;
    sched_setaffinity(Pid::from_raw(0), &one).context("staying on one CPU")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_taken_for_a_while_and_not_from_what_comes_later() -> Result<()> {
        let state = || {
            // SAFETY: it takes a plain number.
            let policy = Errno::result(unsafe { libc::sched_getscheduler(0) })?;
            Ok::<_, anyhow::Error>((policy, sched_getaffinity(Pid::from_raw(0))?))
        };
        let before = state()?;
        assert_eq!(on(Cpu::Last, || Ok(state()?.0))?, libc::SCHED_FIFO);
        assert!(state()? == before);
        Ok(())
    }
}
