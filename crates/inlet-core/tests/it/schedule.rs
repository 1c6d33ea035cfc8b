//! When summaries are due: whole years, hour by hour, on clocks that jump.

use std::collections::BTreeMap;

use inlet_core::calendar::Week;
use inlet_core::document::Timestamp;
use inlet_core::schedule::{CRON_DEFAULT, Made, Schedule, ScheduleError, WEEKS_MAX};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn later(moment: Timestamp, micros: i64) -> Timestamp {
    Timestamp::from_micros(moment.as_micros() + micros)
}

fn week(text: &str) -> Week {
    text.parse().unwrap()
}

fn weeks(texts: &[&str]) -> Vec<Week> {
    texts.iter().map(|text| week(text)).collect()
}

/// A role in small: looks whenever it is told to, makes what is due, and counts.
struct Role {
    schedule: Schedule,
    first: Option<Timestamp>,
    made: Vec<Made>,
    times: BTreeMap<Week, u32>,
}

impl Role {
    fn new(cron: &str, zone: &str, first: &str) -> Self {
        let schedule = Schedule::new(cron, zone).unwrap();
        Self { schedule, first: Some(at(first)), made: Vec::new(), times: BTreeMap::new() }
    }

    fn look(&mut self, now: Timestamp) -> Vec<Week> {
        let due = self.schedule.due(&self.made, self.first, now);
        for week in &due {
            self.made.retain(|made| made.week != *week);
            // Making it takes a moment.
            self.made.push(Made { week: *week, made: later(now, 300_000) });
            *self.times.entry(*week).or_default() += 1;
        }
        due
    }
}

#[test]
fn a_year_looked_at_hour_by_hour_gives_each_week_once() {
    // The run ends on Monday 11 January 2027 at noon, so that only those that fire on Mondays
    // have made the week before.
    for (cron, zone, weeks) in [
        (CRON_DEFAULT, "UTC", 53),
        (CRON_DEFAULT, "Europe/Berlin", 53),
        ("30 2 * * 0", "Europe/Berlin", 52),
        ("30 2 * * 0", "America/New_York", 52),
        ("0 0 * * 1", "Pacific/Apia", 53),
        ("15 23 * * 3", "Australia/Lord_Howe", 52),
    ] {
        let mut role = Role::new(cron, zone, "2026-01-05T12:00:00Z");
        let begins = at("2026-01-05T12:00:00Z");
        for hour in 0..(371 * 24) {
            role.look(later(begins, hour * HOUR));
        }
        let expected: Vec<Week> =
            std::iter::successors(Some(week("2026-W02")), |week| Some(week.after()))
                .take(weeks)
                .collect();
        let made: Vec<Week> = role.times.keys().copied().collect();
        assert_eq!(made, expected, "{cron} {zone}");
        assert!(role.times.values().all(|times| *times == 1), "{cron} {zone}: {:?}", role.times);
    }
}

#[test]
fn nothing_is_due_before_there_are_documents_nor_for_the_weeks_before_the_first() {
    let schedule = Schedule::new(CRON_DEFAULT, "UTC").unwrap();
    let now = at("2026-11-23T07:00:00Z");
    assert!(schedule.due(&[], None, now).is_empty());
    assert!(schedule.due(&[], Some(at("2026-11-23T06:30:00Z")), now).is_empty());
    let due = schedule.due(&[], Some(at("2026-11-10T00:00:00Z")), now);
    assert_eq!(due, weeks(&["2026-W46", "2026-W47"]));
}

#[test]
fn a_week_is_due_at_the_firing_after_its_end_and_not_before() {
    let schedule = Schedule::new(CRON_DEFAULT, "UTC").unwrap();
    let first = Some(at("2026-11-16T00:00:00Z"));
    assert!(schedule.due(&[], first, at("2026-11-23T05:59:59.999999Z")).is_empty());
    assert_eq!(schedule.due(&[], first, at("2026-11-23T06:00:00Z")), weeks(&["2026-W47"]));
}

#[test]
fn missed_weeks_are_caught_up_once_and_at_most_the_last_eight() {
    let mut role = Role::new(CRON_DEFAULT, "UTC", "2026-01-01T00:00:00Z");
    role.look(at("2026-03-02T06:00:00Z"));
    role.times.clear();
    let due = role.look(at("2026-03-25T10:00:00Z"));
    assert_eq!(due, weeks(&["2026-W10", "2026-W11", "2026-W12"]));
    assert!(role.look(at("2026-03-25T11:00:00Z")).is_empty());
    let due = role.look(at("2026-11-25T10:00:00Z"));
    assert_eq!(due.len(), WEEKS_MAX);
    assert_eq!(due.last(), Some(&week("2026-W47")));
}

#[test]
fn a_clock_that_jumps_back_a_day_makes_nothing_twice() {
    for hours_after in 0..72 {
        let mut role = Role::new(CRON_DEFAULT, "Europe/Berlin", "2026-11-09T00:00:00Z");
        let begins = at("2026-11-20T00:00:00Z");
        let jumps = later(at("2026-11-23T05:00:00Z"), hours_after * HOUR - DAY);
        let mut now = begins;
        while now < later(jumps, DAY) {
            role.look(now);
            now = later(now, HOUR / 2);
        }
        now = jumps;
        while now < at("2026-12-01T00:00:00Z") {
            role.look(now);
            now = later(now, HOUR / 2);
        }
        let times: Vec<_> = role.times.iter().map(|(week, times)| (*week, *times)).collect();
        assert_eq!(
            times,
            [(week("2026-W46"), 1), (week("2026-W47"), 1), (week("2026-W48"), 1)],
            "{hours_after}"
        );
    }
}

#[test]
fn a_clock_that_ran_a_year_ahead_costs_no_week_its_summary_but_the_last_it_made() {
    let mut role = Role::new(CRON_DEFAULT, "UTC", "2026-11-16T00:00:00Z");
    role.look(at("2027-11-22T06:00:00Z"));
    assert_eq!(role.times.len(), WEEKS_MAX);
    role.times.clear();
    let mut now = at("2026-11-20T00:00:00Z");
    while now < at("2027-12-01T00:00:00Z") {
        role.look(now);
        now = later(now, HOUR);
    }
    let expected: Vec<Week> =
        std::iter::successors(Some(week("2026-W47")), |week| Some(week.after())).take(54).collect();
    // The last week the false clock made has its moment within two days of the true one, and
    // counts.
    let early = week("2027-W46");
    let made: Vec<Week> = role.times.keys().copied().collect();
    assert_eq!(made, expected.into_iter().filter(|week| *week != early).collect::<Vec<_>>());
    assert!(role.times.values().all(|times| *times == 1));
}

#[test]
fn a_summary_made_before_its_week_was_over_is_made_again_in_time() {
    let schedule = Schedule::new(CRON_DEFAULT, "UTC").unwrap();
    let first = Some(at("2026-11-16T00:00:00Z"));
    let made = [Made { week: week("2026-W47"), made: at("2026-11-20T10:00:00Z") }];
    assert_eq!(schedule.due(&made, first, at("2026-11-23T06:00:00Z")), weeks(&["2026-W47"]));
}

#[test]
fn an_expression_that_fires_daily_makes_the_last_week_anew_each_day() {
    let mut role = Role::new("0 3 * * *", "UTC", "2026-11-16T00:00:00Z");
    let mut now = at("2026-11-23T00:00:00Z");
    while now < at("2026-11-30T00:00:00Z") {
        role.look(now);
        now = later(now, HOUR);
    }
    assert_eq!(role.times, BTreeMap::from([(week("2026-W47"), 7)]));
}

#[test]
fn an_expression_that_fires_monthly_makes_the_weeks_since_at_once() {
    let mut role = Role::new("0 6 1 * *", "UTC", "2026-09-28T00:00:00Z");
    let mut now = at("2026-10-05T00:00:00Z");
    while now < at("2026-12-31T00:00:00Z") {
        role.look(now);
        now = later(now, HOUR);
    }
    // On Sunday 1 November and on Tuesday 1 December: W40 to W43, and W44 to W48.
    assert_eq!(role.times.len(), 9, "{:?}", role.times);
    assert!(role.times.values().all(|times| *times == 1), "{:?}", role.times);
}

#[test]
fn a_time_the_spring_change_leaves_out_fires_later_and_one_it_repeats_fires_once() {
    let schedule = Schedule::new("30 2 * * *", "Europe/Berlin").unwrap();
    let firings = |from: &str, count| {
        std::iter::successors(Some(schedule.next(at(from))), |now| Some(schedule.next(*now)))
            .take(count)
            .map(|moment| moment.to_string()[..16].to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        firings("2026-03-27T12:00:00Z", 3),
        ["2026-03-28T01:30", "2026-03-29T01:30", "2026-03-30T00:30"]
    );
    assert_eq!(firings("2026-10-24T12:00:00Z", 2), ["2026-10-25T00:30", "2026-10-26T01:30"]);
}

#[test]
fn next_is_after_now_and_the_same_from_everywhere_before() {
    let schedule = Schedule::new(CRON_DEFAULT, "Europe/Berlin").unwrap();
    let monday = at("2026-11-23T05:00:00Z");
    for before in [1, HOUR, 3 * DAY, 7 * DAY] {
        assert_eq!(schedule.next(later(monday, -before)), monday);
    }
    assert_eq!(schedule.next(monday), at("2026-11-30T05:00:00Z"));
}

#[test]
fn a_leap_day_fires_in_the_next_leap_year() {
    let schedule = Schedule::new("0 6 29 2 *", "UTC").unwrap();
    assert_eq!(schedule.next(at("2026-11-21T00:00:00Z")), at("2028-02-29T06:00:00Z"));
}

#[test]
fn a_bad_expression_or_zone_is_refused_with_what_is_wrong_and_a_hint() {
    let refused = |cron: &str, zone: &str| Schedule::new(cron, zone).unwrap_err();
    for cron in ["", "0 6 * *", "0 6 * * 1 UTC", "0 25 * * 1", "x 6 * * 1", "@weekly"] {
        let error = refused(cron, "UTC");
        assert!(matches!(error, ScheduleError::Expression { .. }), "{cron}: {error}");
        assert!(error.hint().contains("0 6 * * 1"), "{cron}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert_eq!(
        refused("0 25 * * 1", "UTC").to_string(),
        "`0 25 * * 1` is no cron expression: value must be in range 0..=23; found 25"
    );
    let never = refused("0 6 30 2 *", "UTC");
    assert!(matches!(never, ScheduleError::NeverFires { .. }), "{never}");
    for (zone, nearest) in [
        ("Europe/Berln", "Europe/Berlin"),
        ("berlin", "Europe/Berlin"),
        ("america/new york", "America/New_York"),
    ] {
        let hint = format!("did you mean `{nearest}`?");
        match Schedule::new(CRON_DEFAULT, zone) {
            Err(error) => assert_eq!(error.hint(), hint, "{zone}"),
            Ok(_) => panic!("{zone} is no zone"),
        }
    }
    let unlike = refused(CRON_DEFAULT, "Middle-earth/Shire");
    assert!(unlike.hint().contains("Europe/Berlin"), "{}", unlike.hint());
}
