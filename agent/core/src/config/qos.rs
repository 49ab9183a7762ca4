//! How limits of what machines receive are turned into queueing disciplines: the Linux bridge agent's options.

use std::num::NonZeroU32;

use super::read::Reader;

/// The `[QOS]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QosConfig {
    /// How often the kernel looks after its queues in a second, for all that is known (`kernel_hz`).
    pub kernel_hz: NonZeroU32,
    /// How long a packet may wait, in milliseconds (`tbf_latency`).
    pub tbf_latency_ms: NonZeroU32,
}

pub(super) const OPTIONS: &[&str] = &["kernel_hz", "tbf_latency"];

const KERNEL_HZ: NonZeroU32 = NonZeroU32::new(250).unwrap();
const TBF_LATENCY_MS: NonZeroU32 = NonZeroU32::new(50).unwrap();

impl Default for QosConfig {
    fn default() -> Self {
        Self { kernel_hz: KERNEL_HZ, tbf_latency_ms: TBF_LATENCY_MS }
    }
}

impl Reader<'_> {
    pub(super) fn qos(&mut self) -> QosConfig {
        let default = QosConfig::default();
        QosConfig {
            kernel_hz: self.parsed("qos", "kernel_hz", "a number of at least 1").unwrap_or(default.kernel_hz),
            tbf_latency_ms: self
                .parsed("qos", "tbf_latency", "a number of milliseconds")
                .unwrap_or(default.tbf_latency_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::read::tests::{MINIMAL, read};

    #[test]
    fn the_linux_bridge_agents_section_is_read_and_zeros_in_it_are_refused() {
        let (config, _) = read(&format!("[QOS]\nkernel_hz = 1000\ntbf_latency = 20\n{MINIMAL}")).expect("valid");
        assert_eq!((config.qos.kernel_hz.get(), config.qos.tbf_latency_ms.get()), (1000, 20));
        let problems = read(&format!("[QOS]\nkernel_hz = 0\n{MINIMAL}")).expect_err("invalid");
        assert_eq!(problems, ["/etc/o/a.ini:2: [qos] kernel_hz = 0: expected a number of at least 1"]);
    }
}
