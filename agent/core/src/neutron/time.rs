//! Times as OpenStack writes them: UTC, without a zone.

use std::time::Duration;

const SECS_PER_DAY: u64 = 86_400;

/// `2026-11-23T01:36:44.446940`, for a time since 1970.
pub fn timestamp(since_epoch: Duration) -> String {
    let secs = since_epoch.as_secs();
    let (year, month, day) = civil_date(secs / SECS_PER_DAY);
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    let micros = since_epoch.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}")
}

/// Year, month and day of the Gregorian calendar, for a number of days since 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Counted in years that begin in March, a leap day is the last of its year. 719468 days lie between 0000-03-01 and 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_the_server_reads_it() {
        let written = |secs, micros: u32| timestamp(Duration::new(secs, micros * 1000));
        assert_eq!(written(0, 0), "1970-01-01T00:00:00.000000");
        assert_eq!(written(951_782_400, 5), "2000-02-29T00:00:00.000005");
        assert_eq!(written(1_795_397_804, 446_940), "2026-11-23T01:36:44.446940");
        assert_eq!(written(4_107_542_399, 0), "2100-02-28T23:59:59.000000");
        assert_eq!(written(4_107_542_400, 0), "2100-03-01T00:00:00.000000");
    }
}
