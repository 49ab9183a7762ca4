//! What the programs log when asked to (`aya-log`): off by default, so that the verifier removes it.

use aya::Ebpf;
use aya_log::{EbpfLogger, Level};
use tokio::io::unix::AsyncFd;

/// The level that the programs are loaded with.
pub(super) fn level(enabled: bool) -> u8 {
    if enabled { Level::Debug as u8 } else { 0 }
}

/// Starts forwarding what the programs log to the agent's own log, until the runtime ends.
pub(super) fn forward(
    ebpf: &mut Ebpf,
) -> Result<tokio::task::JoinHandle<()>, Box<dyn std::error::Error + Send + Sync>> {
    // SAFETY: the logger owns its ring buffer's descriptor and returns the same one for as long as it lives.
    let mut logger = unsafe { AsyncFd::register(EbpfLogger::init(ebpf)?)? };
    Ok(tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }))
}
