//! Moments as people type them: `2026-11-29`, `2026-11-29T10:00:00Z`, and spans as in `1h`.

use inlet_core::calendar::{Calendar, Day};
use inlet_core::document::Timestamp;
use jiff::SignedDuration;

use crate::report::Hinted;

/// The moment that was typed for `flag`: RFC 3339, or a day of `calendar`, which means the moment
/// at which it begins.
///
/// # Errors
/// A usage error where it is neither.
pub(crate) fn parse(flag: &str, typed: &str, calendar: &Calendar) -> Result<Timestamp, Hinted> {
    let typed = typed.trim();
    if let Ok(moment) = typed.parse() {
        return Ok(moment);
    }
    if let Ok(day) = typed.parse::<Day>() {
        return Ok(calendar.bounds(day).0);
    }
    Err(Hinted::usage(
        format!("{flag}: {typed:?} is no moment"),
        "write it as 2026-11-21T02:03:18Z, or as a day, 2026-11-21",
    ))
}

/// The span that was typed for `flag`: `90s`, `15m`, `1h`, `2d`, `1w`, or several in a row.
///
/// # Errors
/// A usage error where it is none, or is not above zero.
pub(crate) fn span(flag: &str, typed: &str) -> Result<SignedDuration, Hinted> {
    let refused = || {
        let hint = "write it as 90s, 15m, 1h, 2d or 1w";
        Hinted::usage(format!("{flag}: {typed:?} is no span of time"), hint)
    };
    let mut span = SignedDuration::ZERO;
    let mut rest = typed.trim();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count: i64 = rest[..digits].parse().map_err(|_| refused())?;
        let behind = &rest[digits..];
        let letters =
            behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
        let seconds = match &behind[..letters] {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return Err(refused()),
        };
        let seconds = count.checked_mul(seconds).ok_or_else(refused)?;
        span = span.checked_add(SignedDuration::from_secs(seconds)).ok_or_else(refused)?;
        rest = behind[letters..].trim_start();
    }
    if span.is_positive() { Ok(span) } else { Err(refused()) }
}

/// The moment that is `span` after `now`, or before it where it is negative.
pub(crate) fn after(now: Timestamp, span: SignedDuration) -> Timestamp {
    let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_add(micros))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use super::*;

    #[test]
    fn a_day_means_the_moment_at_which_it_begins_in_the_time_zone() {
        let read = |typed: &str, zone: &str| {
            parse("--from", typed, &Calendar::new(zone).unwrap()).unwrap().to_string()
        };
        assert_eq!(read("2026-11-29", "UTC"), "2026-11-29T00:00:00.000000Z");
        assert_eq!(read("2026-11-29", "Europe/Berlin"), "2026-11-28T23:00:00.000000Z");
        assert_eq!(read("2026-11-29T10:00:00+01:00", "UTC"), "2026-11-29T09:00:00.000000Z");
    }

    #[test]
    fn spans_are_read_and_added() {
        let at = Timestamp::from_micros(1_000_000);
        for (typed, seconds) in
            [("90s", 90), ("15m", 900), ("1h", 3_600), ("2d", 172_800), ("1w", 604_800)]
        {
            let span = span("--since", typed).unwrap();
            assert_eq!(after(at, span).as_micros(), 1_000_000 * (seconds + 1), "{typed}");
            assert_eq!(after(at, -span).as_micros(), 1_000_000 * (1 - seconds), "{typed}");
        }
        assert_eq!(span("--since", "1h 30m").unwrap(), span("--since", "90m").unwrap());
    }

    #[test]
    fn words_that_are_no_moment_and_no_span_are_refused_by_their_flag() {
        for typed in ["", "yesterday", "2026-11", "2026-13-01", "10:00", "-1h"] {
            let refused = parse("--from", typed, &Calendar::utc()).unwrap_err().to_string();
            assert!(refused.starts_with("--from: "), "{refused}");
        }
        for typed in ["", "0s", "1", "h", "1x", "-1h", "1.5h", "99999999999999999999s", "1 h"] {
            assert!(span("--since", typed).is_err(), "{typed}");
        }
    }
}
