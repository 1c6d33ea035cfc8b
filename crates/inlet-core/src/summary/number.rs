//! Numbers and dates as people write them. As text: the page escapes them.

use crate::calendar::Day;

use super::Change;

/// A narrow space at which no line breaks: between a number and its unit.
const NARROW: char = '\u{202f}';
const MINUS: char = '\u{2212}';
/// From how many per cent more on a change is told as a factor.
const TIMES_FROM: f64 = 1_000.0;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `1,234,567`.
pub(super) fn exact(count: u64) -> String {
    grouped(&count.to_string())
}

fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.2 million`; exact below a million.
pub(super) fn human(count: u64) -> String {
    const STEPS: [(u64, &str); 4] = [
        (1_000_000_000_000_000, "quadrillion"),
        (1_000_000_000_000, "trillion"),
        (1_000_000_000, "billion"),
        (1_000_000, "million"),
    ];
    scaled(count, &STEPS, ' ').unwrap_or_else(|| exact(count))
}

/// `1.2 M`, for where there is little room; exact below ten thousand.
pub(super) fn short(count: u64) -> String {
    const STEPS: [(u64, &str); 4] =
        [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    if count < 10_000 {
        return exact(count);
    }
    scaled(count, &STEPS, NARROW).unwrap_or_else(|| exact(count))
}

/// `3.4 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const STEPS: [(u64, &str); 6] = [
        (1 << 60, "EiB"),
        (1 << 50, "PiB"),
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    scaled(count, &STEPS, NARROW).unwrap_or_else(|| format!("{}{NARROW}B", exact(count)))
}

/// `count` in the largest unit it fills: to one decimal below 100, in whole units above.
fn scaled(count: u64, steps: &[(u64, &str)], space: char) -> Option<String> {
    let at = steps.iter().position(|(step, _)| count >= *step)?;
    let (step, unit) = steps[at];
    let value = count as f64 / step as f64;
    let text = if value < 99.95 { format!("{value:.1}") } else { grouped(&format!("{value:.0}")) };
    // Rounded up to the next unit's first value, it is written in that unit.
    match at.checked_sub(1).map(|larger| steps[larger]) {
        Some((larger, unit)) if value.round() * step as f64 >= larger as f64 => {
            Some(format!("1.0{space}{unit}"))
        }
        _ => Some(format!("{text}{space}{unit}")),
    }
}

/// `12.4 %`; what is there and rounds to nothing is `< 0.1 %`, and nothing is a dash.
pub(super) fn share(percent: f64, count: u64) -> String {
    if count == 0 {
        return "–".to_owned();
    }
    if percent < 0.1 {
        return format!("<{NARROW}0.1{NARROW}%");
    }
    format!("{percent:.1}{NARROW}%")
}

/// How a count changed, in one word or number: `+12.4 %`, `−3.0 %`, `new`, `gone`, `the same`.
pub(super) fn change(change: &Change) -> String {
    match change.percent {
        None if change.difference > 0 => "new".to_owned(),
        None => "none".to_owned(),
        Some(_) if change.difference == 0 => "the same".to_owned(),
        Some(_) if is_gone(change) => "gone".to_owned(),
        Some(percent) if percent >= TIMES_FROM => format!("×{}", short(times(change))),
        Some(percent) => {
            let sign = if change.difference < 0 { MINUS } else { '+' };
            let size = percent.abs();
            let size = if size < 0.1 { format!("<{NARROW}0.1") } else { format!("{size:.1}") };
            format!("{sign}{size}{NARROW}%")
        }
    }
}

/// The same as the end of a sentence: `12.4 % more than the week before`.
pub(super) fn change_in_words(change: &Change) -> String {
    match change.percent {
        None => "the week before had none".to_owned(),
        Some(_) if change.difference == 0 => "as many as the week before".to_owned(),
        Some(percent) if percent >= TIMES_FROM => {
            format!("{} times as many as the week before", human(times(change)))
        }
        Some(_) => {
            let than = if change.difference < 0 { "fewer" } else { "more" };
            let size = self::change(change);
            let size = size.trim_start_matches(['+', MINUS]);
            if is_gone(change) {
                format!("the week before had {}", human(change.before))
            } else {
                format!("{size} {than} than the week before")
            }
        }
    }
}

/// How many times the week before it is now.
fn times(change: &Change) -> u64 {
    change.before.saturating_add_signed(change.difference) / change.before.max(1)
}

fn is_gone(change: &Change) -> bool {
    i128::from(change.difference) == -i128::from(change.before)
}

/// `1 document`, `1,234 documents`, `no documents`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    match count {
        0 => format!("no {many}"),
        1 => format!("1 {one}"),
        count => format!("{} {many}", human(count)),
    }
}

/// `16 November 2026`.
pub(super) fn date(day: Day) -> String {
    let (year, month, day) = parts(day);
    format!("{day} {month} {year}")
}

/// `16 to 22 November 2026`, with no more of the first date than is needed.
pub(super) fn dates(from: Day, to: Day) -> String {
    let (year, month, day) = parts(from);
    let (to_year, to_month, _) = parts(to);
    let from = match (year == to_year, month == to_month) {
        (true, true) => day,
        (true, false) => format!("{day} {month}"),
        (false, _) => format!("{day} {month} {year}"),
    };
    format!("{from} to {}", date(to))
}

/// Year, month's name and day of the month.
fn parts(day: Day) -> (String, &'static str, String) {
    let text = day.to_string();
    let mut parts = text.rsplitn(3, '-');
    let day = parts.next().unwrap_or_default().trim_start_matches('0').to_owned();
    let month = parts.next().and_then(|month| month.parse::<usize>().ok()).unwrap_or(1);
    let year = parts.next().unwrap_or_default().to_owned();
    (year, MONTHS.get(month.wrapping_sub(1)).copied().unwrap_or_default(), day)
}

/// `16`: the day of the month.
pub(super) fn day_of_month(day: Day) -> String {
    parts(day).2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_people_read_them() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (999_999, "999,999"),
            (1_000_000, "1.0 million"),
            (1_249_000, "1.2 million"),
            (123_456_789, "123 million"),
            (999_999_999, "1.0 billion"),
            (u64::MAX, "18,447 quadrillion"),
        ] {
            assert_eq!(human(count), text);
        }
        assert_eq!(exact(1_234_567), "1,234,567");
        assert_eq!(short(12_345), "12.3\u{202f}k");
    }

    #[test]
    fn sizes_are_written_in_the_largest_unit_they_fill() {
        for (count, text) in [
            (0, "0 B"),
            (1_023, "1,023 B"),
            (1_024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (3_565_158, "3.4 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count).replace('\u{202f}', " "), text);
        }
    }

    #[test]
    fn a_change_is_told_with_its_sign_and_without_false_precision() {
        let of = |before, difference, percent| Change { before, difference, percent };
        for (of, text, words) in [
            (of(0, 5, None), "new", "the week before had none"),
            (of(0, 0, None), "none", "the week before had none"),
            (of(5, 0, Some(0.0)), "the same", "as many as the week before"),
            (of(5, -5, Some(-100.0)), "gone", "the week before had 5"),
            (of(1_000, 124, Some(12.4)), "+12.4 %", "12.4 % more than the week before"),
            (of(1_000, -30, Some(-3.0)), "−3.0 %", "3.0 % fewer than the week before"),
            (of(1_000_000, 1, Some(0.0)), "+< 0.1 %", "< 0.1 % more than the week before"),
            (
                of(1, 12_345, Some(1_234_500.0)),
                "×12.3 k",
                "12,346 times as many as the week before",
            ),
        ] {
            assert_eq!(change(&of).replace(NARROW, " "), text);
            assert_eq!(change_in_words(&of).replace(NARROW, " "), words);
        }
    }

    #[test]
    fn dates_repeat_nothing() {
        let dates = |from: &str, to: &str| super::dates(from.parse().unwrap(), to.parse().unwrap());
        assert_eq!(dates("2026-11-16", "2026-11-22"), "16 to 22 November 2026");
        assert_eq!(dates("2026-11-30", "2026-12-06"), "30 November to 6 December 2026");
        assert_eq!(dates("2026-12-28", "2027-01-03"), "28 December 2026 to 3 January 2027");
    }
}
