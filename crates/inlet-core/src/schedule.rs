//! When a summary is due.
//!
//! [`Schedule`] is pure: it is asked with what has been made and what time it is, and keeps
//! nothing. Which firing a summary came from is therefore never remembered wrongly, and a test
//! needs no clock.
//!
//! # Rules
//!
//! - The expression is matched against the clock on the wall of the zone, and each time on that
//!   wall fires once: a time that the spring change leaves out fires as much later as the clock
//!   was put forward, and one that the autumn change repeats fires the first time only.
//! - A week is complete when it is over in the zone. A complete week is due from the first firing
//!   after its end for as long as it has no summary made after its end: an outage of any length
//!   is caught up once, at the next look.
//! - The latest complete week is due again at each further firing. With the default expression
//!   there is none; with one that fires daily the summary of last week is made anew every day,
//!   and takes in what was stored late.
//! - Only the last [`WEEKS_MAX`] complete weeks are looked at, and none before the week of the
//!   first document: the first start ever has nothing to catch up.
//! - The clock may jump. Back, by a day or less: nothing is made twice, because what was made
//!   after a firing is still there. Forward: what the false time made due is made, with what was
//!   counted by then. Once the clock is right again, a summary from more than two days ahead
//!   counts as not made and is made in its time; only the last week of the false time may keep
//!   its early summary, until someone makes it anew.

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, db};
use jiff::{SignedDuration, ToSpan};

use crate::calendar::{Calendar, Week};
use crate::document::Timestamp;

/// The expression of a start without settings: Mondays at 06:00.
pub const CRON_DEFAULT: &str = "0 6 * * 1";
/// How many complete weeks are looked at, and so how many are caught up at most.
pub const WEEKS_MAX: usize = 8;

/// How far ahead of the present a summary may have been made and still count.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(48);
/// More than any zone's clock was ever put forward at once (a day, at the date line).
const GAP_HOURS_MAX: i64 = 25;
/// How many firings are passed over in search of one that is late enough: those of every minute
/// of two days are fewer.
const FIRINGS_MAX: usize = 4_000;

/// An expression or a zone that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The text is no cron expression.
    #[error("`{expression}` is no cron expression: {reason}")]
    Expression {
        /// The text.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The expression is well-formed and never fires, as on 30 February.
    #[error("`{expression}` never fires")]
    NeverFires {
        /// The text.
        expression: String,
    },
    /// The zone is not known.
    #[error("the time zone `{zone}` is not known")]
    Zone {
        /// The name.
        zone: String,
        /// The known name that is most like it.
        nearest: Option<String>,
    },
}

/// A summary that lies in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Of which week.
    pub week: Week,
    /// When it was made.
    pub made: Timestamp,
}

/// When summaries are made: a cron expression in a time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Parsed for UTC, and driven with times on the wall as if they were UTC.
    crontab: cronexpr::Crontab,
    zone: TimeZone,
    calendar: Calendar,
}

impl Schedule {
    /// The schedule of `cron` (five fields: minute, hour, day of month, month, day of week) in
    /// the time zone with the IANA name `zone`.
    pub fn new(cron: &str, zone: &str) -> Result<Self, ScheduleError> {
        let invalid =
            |reason: String| ScheduleError::Expression { expression: cron.to_owned(), reason };
        let unknown = || ScheduleError::Zone { zone: zone.to_owned(), nearest: nearest_zone(zone) };
        let calendar = Calendar::new(zone).map_err(|_| unknown())?;
        let zone = TimeZone::get(zone).map_err(|_| unknown())?;
        let fields = cron.split_whitespace().count();
        if fields != 5 {
            return Err(invalid(format!("it has {fields} fields and not five")));
        }
        let crontab = cronexpr::parse_crontab(&format!("{} UTC", cron.trim()))
            .map_err(|error| invalid(last_line(&error.to_string())))?;
        // The years from here have a 29 February, so that what fires on it alone is let through.
        if crontab.find_next("2024-01-01T00:00:00Z").is_err() {
            return Err(ScheduleError::NeverFires { expression: cron.to_owned() });
        }
        Ok(Self { crontab, zone, calendar })
    }

    /// The calendar of the schedule's zone.
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// The first firing after `now`.
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let wall = now.to_jiff().to_zoned(self.zone.clone()).datetime();
        // A time that was left out lies before the present on the wall and fires after it.
        let mut probe = wall.saturating_sub(GAP_HOURS_MAX.hours());
        for _ in 0..FIRINGS_MAX {
            let Some(firing) = self.next_on_the_wall(probe) else { break };
            let moment = firing.to_zoned(self.zone.clone()).map(|zoned| zoned.timestamp());
            match moment.map(|moment| Timestamp::from_micros(moment.as_microsecond())) {
                Ok(moment) if moment > now => return moment,
                Ok(_) => probe = firing,
                Err(_) => break,
            }
        }
        Timestamp::from_micros(i64::MAX)
    }

    /// The weeks whose summaries are due at `now`, oldest first. `made` are the summaries there
    /// are, at least of the [weeks looked at](Self::weeks_complete), in any order; `first` is
    /// when the first document was received.
    pub fn due(&self, made: &[Made], first: Option<Timestamp>, now: Timestamp) -> Vec<Week> {
        let Some(first) = first.map(|first| Week::of(self.calendar.day(first))) else {
            return Vec::new();
        };
        let weeks = self.weeks_complete(now);
        let latest = weeks.last().copied();
        weeks
            .into_iter()
            .filter(|week| *week >= first)
            .filter(|week| {
                let ends = self.calendar.bounds(week.last_day()).1;
                let firing = match last_made(made, *week, ends, now) {
                    None => self.next(Timestamp::from_micros(ends.as_micros() - 1)),
                    Some(made) if Some(*week) == latest => self.next(made),
                    Some(_) => return false,
                };
                firing <= now
            })
            .collect()
    }

    /// The last [`WEEKS_MAX`] weeks that are over at `now`, oldest first.
    pub fn weeks_complete(&self, now: Timestamp) -> Vec<Week> {
        let mut weeks = Vec::with_capacity(WEEKS_MAX);
        let mut week = Week::of(self.calendar.day(now));
        for _ in 0..WEEKS_MAX {
            week = week.before();
            weeks.push(week);
        }
        weeks.reverse();
        weeks
    }

    fn next_on_the_wall(&self, after: DateTime) -> Option<DateTime> {
        let after = after.to_zoned(TimeZone::UTC).ok()?.timestamp();
        self.crontab.find_next(after).ok().map(|firing| firing.datetime())
    }
}

impl ScheduleError {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Expression { .. } | Self::NeverFires { .. } => format!(
                "five fields are minute, hour, day of month, month, day of week; \
                 Mondays at 06:00 are `{CRON_DEFAULT}`, and the time zone has its own setting"
            ),
            Self::Zone { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::Zone { nearest: None, .. } => {
                "a time zone has an IANA name, as in `Europe/Berlin`, or is `UTC`".to_owned()
            }
        }
    }
}

/// When the summary of `week` was last made after the week's end, if the moment can be believed.
fn last_made(made: &[Made], week: Week, ends: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let ahead = i64::try_from(AHEAD_MAX.as_micros()).unwrap_or(i64::MAX);
    let latest = Timestamp::from_micros(now.as_micros().saturating_add(ahead));
    made.iter()
        .filter(|made| made.week == week && made.made >= ends && made.made <= latest)
        .map(|made| made.made)
        .max()
}

/// The library draws a picture over several lines; its last line says what is wrong.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    line.trim_start_matches([' ', '^']).to_owned()
}

/// The known zone whose name, or whose city's name, is most like `name`.
fn nearest_zone(name: &str) -> Option<String> {
    let wanted = name.to_ascii_lowercase().replace([' ', '-'], "_");
    let far = wanted.len() / 3 + 1;
    db().available()
        .map(|zone| {
            let known = zone.as_str().to_ascii_lowercase();
            let city = known.rsplit('/').next().unwrap_or_default();
            let distance = edits(&wanted, &known).min(edits(&wanted, city));
            (distance, zone.as_str().to_owned())
        })
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, zone)| zone)
}

/// How many characters must be put in, left out or exchanged to make `b` of `a`.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let exchanged = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
