//! Days and weeks in the time zone of the settings.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, ISOWeekDate, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan};

use crate::document::Timestamp;
use crate::rejection::Rejection;

/// A day in some time zone, as `2026-11-21`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// The day that many days later (or earlier), bounded by the calendar's ends.
    #[must_use]
    pub fn plus(self, days: i32) -> Self {
        Self(self.0.saturating_add(Span::new().days(days)))
    }

    /// Monday's name is `Mon`.
    pub fn weekday_short(self) -> &'static str {
        match self.0.weekday() {
            Weekday::Monday => "Mon",
            Weekday::Tuesday => "Tue",
            Weekday::Wednesday => "Wed",
            Weekday::Thursday => "Thu",
            Weekday::Friday => "Fri",
            Weekday::Saturday => "Sat",
            Weekday::Sunday => "Sun",
        }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Day {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// An ISO 8601 week, as `2026-W47`: from Monday to Sunday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Week {
    year: i16,
    week: i8,
}

impl Week {
    /// The week that `day` is in.
    pub fn of(day: Day) -> Self {
        let iso = day.0.iso_week_date();
        Self { year: iso.year(), week: iso.week() }
    }

    /// Its Monday.
    pub fn first_day(self) -> Day {
        let monday = ISOWeekDate::new(self.year, self.week, Weekday::Monday);
        Day(monday.map(Date::from).unwrap_or(Date::MIN))
    }

    /// Its Sunday.
    pub fn last_day(self) -> Day {
        self.first_day().plus(6)
    }

    /// Its seven days, Monday first.
    pub fn days(self) -> [Day; 7] {
        [0, 1, 2, 3, 4, 5, 6].map(|days| self.first_day().plus(days))
    }

    /// The week before.
    #[must_use]
    pub fn before(self) -> Self {
        Self::of(self.first_day().plus(-7))
    }

    /// The week after.
    #[must_use]
    pub fn after(self) -> Self {
        Self::of(self.first_day().plus(7))
    }
}

impl fmt::Display for Week {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-W{:02}", self.year, self.week)
    }
}

impl FromStr for Week {
    type Err = Rejection;

    fn from_str(text: &str) -> Result<Self, Rejection> {
        let invalid = Rejection::ParameterInvalid {
            name: "week",
            expected: "an ISO 8601 week, as in 2026-W47",
        };
        let (year, week) = text.split_once("-W").ok_or(invalid.clone())?;
        if year.len() != 4 || week.len() != 2 {
            return Err(invalid);
        }
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let (Ok(year), Ok(week)) = (year.parse(), week.parse()) else { return Err(invalid) };
        if !digits(&text[..4]) || !digits(&text[6..]) || !(1..=53).contains(&week) {
            return Err(invalid);
        }
        match ISOWeekDate::new(year, week, Weekday::Monday) {
            Ok(_) => Ok(Self { year, week }),
            // A week of the right form that this year has not.
            Err(_) => Err(Rejection::NotFound),
        }
    }
}

/// Which day a moment belongs to: the calendar of one time zone.
#[derive(Debug, Clone)]
pub struct Calendar {
    zone: TimeZone,
}

impl Calendar {
    /// The calendar of the time zone with that IANA name (`Europe/Berlin`), or `UTC`.
    pub fn new(zone: &str) -> Result<Self, jiff::Error> {
        TimeZone::get(zone).map(|zone| Self { zone })
    }

    /// The calendar of UTC.
    pub fn utc() -> Self {
        Self { zone: TimeZone::UTC }
    }

    /// Its time zone's name.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The day that `moment` is in.
    pub fn day(&self, moment: Timestamp) -> Day {
        Day(moment.to_jiff().to_zoned(self.zone.clone()).date())
    }

    /// The moments at which `day` begins and ends; the end is the next day's beginning. A day
    /// is not always 24 hours long.
    pub fn bounds(&self, day: Day) -> (Timestamp, Timestamp) {
        (self.begins(day.0), self.begins(day.0.saturating_add(1.day())))
    }

    fn begins(&self, date: Date) -> Timestamp {
        let moment = date.to_zoned(self.zone.clone()).map(|zoned| zoned.timestamp());
        Timestamp::from_micros(moment.map_or(i64::MAX, |moment| moment.as_microsecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_survives_its_text_and_knows_its_days() {
        let week: Week = "2026-W47".parse().unwrap();
        assert_eq!(week.to_string(), "2026-W47");
        assert_eq!(week.first_day().to_string(), "2026-11-16");
        assert_eq!(week.last_day().to_string(), "2026-11-22");
        assert_eq!(week.before().to_string(), "2026-W46");
    }

    #[test]
    fn a_year_may_have_53_weeks() {
        let last: Week = "2026-W53".parse().unwrap();
        assert_eq!(last.after().to_string(), "2027-W01");
        assert!("2027-W53".parse::<Week>().is_err());
    }

    #[test]
    fn text_that_is_no_week_is_refused() {
        for text in [
            "", "2026", "2026-47", "2026-W00", "2026-W54", "2026-W7", "26-W07", "+026-W07",
            "2026-W+7",
        ] {
            assert!(text.parse::<Week>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_ends_where_the_next_begins_also_when_clocks_change() {
        let berlin = Calendar::new("Europe/Berlin").unwrap();
        let day: Day = "2026-10-25".parse().unwrap();
        let (begins, ends) = berlin.bounds(day);
        assert_eq!((ends.as_micros() - begins.as_micros()) / 3_600_000_000, 25);
        assert_eq!(berlin.day(begins), day);
        assert_eq!(berlin.day(Timestamp::from_micros(ends.as_micros() - 1)), day);
        assert_eq!(berlin.day(ends), day.plus(1));
    }
}
