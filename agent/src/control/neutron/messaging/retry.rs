//! Which broker is tried next, and when: not by all agents of a cloud at the same moment.

use std::time::Duration;

use overlane_core::config::ConnectionConfig;

/// A connection that did not last longer counts as one that was refused.
const SHORT_LIVED: Duration = Duration::from_secs(10);

/// The order of attempts. `luck` is a random number from 0 to 1.
pub(super) struct Retry {
    config: ConnectionConfig,
    brokers: usize,
    next: usize,
    failures: usize,
}

impl Retry {
    /// Begins with any broker, so that agents spread over all of them.
    pub(super) fn new(config: ConnectionConfig, brokers: usize, luck: f64) -> Self {
        Self { config, brokers, next: (luck * brokers as f64) as usize % brokers, failures: 0 }
    }

    /// The broker to be tried now.
    pub(super) const fn broker(&self) -> usize {
        self.next
    }

    /// How long to wait after a connection was lost.
    pub(super) fn lost(&mut self, lived: Duration, luck: f64) -> Duration {
        if lived < SHORT_LIVED {
            return self.refused(luck);
        }
        self.failures = 0;
        self.advance();
        self.config.reconnect_delay.mul_f64(luck)
    }

    /// How long to wait after a broker could not be used: not at all while there are others.
    pub(super) fn refused(&mut self, luck: f64) -> Duration {
        self.failures += 1;
        self.advance();
        if !self.failures.is_multiple_of(self.brokers) {
            return Duration::ZERO;
        }
        let rounds = u32::try_from(self.failures / self.brokers).unwrap_or(u32::MAX);
        let grown = self.config.retry_backoff.saturating_mul(rounds - 1).saturating_add(self.config.retry_interval);
        grown.min(self.config.retry_max).mul_f64(0.5 + luck / 2.0)
    }

    const fn advance(&mut self) {
        self.next = (self.next + 1) % self.brokers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: ConnectionConfig = ConnectionConfig {
        heartbeat_secs: 60,
        reconnect_delay: Duration::from_secs(1),
        retry_interval: Duration::from_secs(1),
        retry_backoff: Duration::from_secs(2),
        retry_max: Duration::from_secs(4),
    };
    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn all_brokers_are_tried_before_the_first_pause_and_pauses_grow_to_a_limit() {
        let mut retry = Retry::new(CONFIG, 2, 0.99);
        assert_eq!(retry.broker(), 1);
        let pauses: Vec<f32> = (0..8).map(|_| retry.refused(1.0).as_secs_f32()).collect();
        assert_eq!(pauses, [0.0, 1.0, 0.0, 3.0, 0.0, 4.0, 0.0, 4.0]);
        assert_eq!(retry.broker(), 1);
    }

    #[test]
    fn a_lost_connection_is_soon_replaced_by_another_broker_at_a_moment_of_its_own() {
        let mut retry = Retry::new(CONFIG, 2, 0.0);
        retry.refused(0.0);
        assert_eq!(retry.lost(LONG, 0.25), Duration::from_millis(250));
        assert_eq!(retry.broker(), 0);
        assert_eq!((retry.refused(0.0), retry.refused(0.0)), (Duration::ZERO, Duration::from_millis(500)));
    }

    #[test]
    fn connections_that_do_not_last_are_not_made_ever_faster() {
        let mut retry = Retry::new(CONFIG, 1, 0.5);
        let pauses: Vec<f32> = (0..3).map(|_| retry.lost(Duration::ZERO, 1.0).as_secs_f32()).collect();
        assert_eq!(pauses, [1.0, 3.0, 4.0]);
    }
}
