//! Pings of which none may be lost, however late its answer is.

use anyhow::{Result, ensure};

use super::Namespace;

impl Namespace {
    /// Sends `count` pings, 10 ms apart, and returns what `ping` says of them.
    ///
    /// # Errors
    /// When one is lost.
    pub fn ping(&self, address: &str, count: u32) -> Result<String> {
        // Without a deadline `ping` waits for its last answers twice as long as the slowest took: what is late on a busy machine
        // would pass for lost. With one it sends more of them until as many as asked for are answered.
        let output = self.run(&format!("ping -n -i 0.01 -c {count} -w 20 {address}"))?;
        let answered: Vec<u64> = answered(&output).collect();
        let missing: Vec<u64> = (1..=u64::from(count)).filter(|number| !answered.contains(number)).collect();
        ensure!(missing.is_empty(), "lost pings: {missing:?}\n{output}");
        Ok(output)
    }
}

/// The numbers of the requests that were answered, by what `ping` prints, in the order of the answers.
pub(super) fn answered(output: &str) -> impl Iterator<Item = u64> {
    // What routers say of a request has its number as well.
    let answers = output.lines().filter(|line| line.contains(" bytes from "));
    answers.filter_map(|line| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_errors_and_late_ones_count() {
        let output = "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.
64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.3 ms
From 10.0.0.1 icmp_seq=2 Destination Host Unreachable
64 bytes from 10.0.0.2: icmp_seq=4 ttl=64 time=0.3 ms
64 bytes from 10.0.0.2: icmp_seq=3 ttl=64 time=480 ms
";
        assert_eq!(answered(output).collect::<Vec<_>>(), [1, 4, 3]);
    }
}
