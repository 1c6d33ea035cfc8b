//! Whether a backend is asked, as a state machine without clocks, sockets or tasks.
//!
//! A backend is judged twice over. Checks ask it and say whether it is *down*: `checks_failed` in
//! a row take it out, `checks_passed` in a row bring it back. Answers to requests say whether it
//! is *ejected*: refused connects, errors in a row, or being far slower or far more often wrong
//! than the others in a window. An ejection lasts twice as long as the one before, up to a limit,
//! and one is forgotten for each quiet time of that limit. Never more than a share of all backends
//! is ejected, which the caller counts; checks take out as many as fail them.
//!
//! A backend that comes back starts slowly: its share of requests grows from a tenth to all of it.

mod check;
mod window;

use std::time::{Duration, Instant};

pub(crate) use check::probe;
pub use window::{Tally, Window, outliers};

use crate::options::HealthOptions;

/// The smallest share of its requests that a returning backend gets.
const SLOW_START_SHARE_MIN: f64 = 0.1;

/// Why a backend is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EjectionCause {
    /// Connections to it could not be made.
    Connect,
    /// Its answers were errors, or none.
    Errors,
    /// It was far slower than the others.
    Slow,
}

impl EjectionCause {
    /// Its name, as in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Errors => "errors",
            Self::Slow => "slow",
        }
    }
}

/// What became of a request that a backend was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer that is not the backend's failure.
    Answered,
    /// No connection could be made.
    ConnectFailed,
    /// An answer of 500, 502 or 504, a broken one, or none in time.
    AnswerFailed,
}

/// How a backend stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing {
    /// No check has been finished yet.
    Unknown,
    /// It is asked, with this share of what its equals get (above 0, up to 1).
    Up(f64),
    /// Checks fail.
    Down,
    /// It is out because of its answers.
    Ejected(EjectionCause),
}

impl Standing {
    /// What a person calls it: `unknown`, `up`, `slow-start`, `down` or `ejected`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up(share) if share < 1.0 => "slow-start",
            Self::Up(_) => "up",
            Self::Down => "down",
            Self::Ejected(_) => "ejected",
        }
    }
}

/// What is known of one backend.
#[derive(Debug)]
pub struct Health {
    options: HealthOptions,
    checked: Checked,
    /// Results in a row that contradict `checked`.
    contradictions: u32,
    connect_errors: u32,
    answer_errors: u32,
    slow_windows: u32,
    ejected: Option<(Instant, EjectionCause)>,
    /// How many ejections are remembered, and since when none came on top.
    ejections: u32,
    quiet_since: Instant,
    up_since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checked {
    Unknown,
    Passing,
    Failing,
}

impl Health {
    /// A backend nothing is known of at `now`.
    pub fn new(options: HealthOptions, now: Instant) -> Self {
        let checked = if options.checks { Checked::Unknown } else { Checked::Passing };
        Self {
            options,
            checked,
            contradictions: 0,
            connect_errors: 0,
            answer_errors: 0,
            slow_windows: 0,
            ejected: None,
            ejections: 0,
            quiet_since: now,
            up_since: now,
        }
    }

    /// How it stands at `now`.
    pub fn standing(&self, now: Instant) -> Standing {
        match (self.checked, self.ejected) {
            (Checked::Failing, _) => Standing::Down,
            (Checked::Unknown, _) => Standing::Unknown,
            (Checked::Passing, Some((_, cause))) => Standing::Ejected(cause),
            (Checked::Passing, None) => Standing::Up(self.share(now)),
        }
    }

    /// Takes the result of a check. The first one is believed at once.
    pub fn on_check(&mut self, passed: bool, now: Instant) {
        let believed = if passed { Checked::Passing } else { Checked::Failing };
        if believed == self.checked {
            self.contradictions = 0;
            return;
        }
        self.contradictions += 1;
        let enough = match self.checked {
            Checked::Unknown => 1,
            Checked::Passing => self.options.checks_failed,
            Checked::Failing => self.options.checks_passed,
        };
        if self.contradictions >= enough {
            self.checked = believed;
            self.contradictions = 0;
            self.up_since = now;
            if passed {
                self.forget_errors();
            }
        }
    }

    /// In how long the next check is due.
    pub fn check_in(&self) -> Duration {
        let doubtful = self.contradictions > 0 || self.checked == Checked::Unknown;
        Duration::from_millis(if doubtful {
            self.options.check_doubt_ms
        } else {
            self.options.check_interval_ms
        })
    }

    /// Takes what became of a request, and says whether the backend was ejected for it. It is not
    /// ejected unless `may_eject`.
    pub fn on_outcome(&mut self, outcome: Outcome, may_eject: bool, now: Instant) -> bool {
        match outcome {
            Outcome::Answered => {
                self.connect_errors = 0;
                self.answer_errors = 0;
                return false;
            }
            Outcome::ConnectFailed => self.connect_errors += 1,
            Outcome::AnswerFailed => self.answer_errors += 1,
        }
        if self.connect_errors >= self.options.connect_errors {
            self.eject(EjectionCause::Connect, may_eject, now)
        } else if self.answer_errors >= self.options.answer_errors {
            self.eject(EjectionCause::Errors, may_eject, now)
        } else {
            false
        }
    }

    /// Takes how its window compared with the others', and says whether it was ejected for it.
    pub fn on_window(&mut self, window: Window, may_eject: bool, now: Instant) -> bool {
        match window {
            Window::Ordinary => {
                self.slow_windows = 0;
                false
            }
            Window::Failing => self.eject(EjectionCause::Errors, may_eject, now),
            Window::Slow => {
                self.slow_windows += 1;
                self.slow_windows >= self.options.slow_windows
                    && self.eject(EjectionCause::Slow, may_eject, now)
            }
        }
    }

    /// Lets time pass: ends an ejection that is over, and says whether it did.
    pub fn on_time(&mut self, now: Instant) -> bool {
        let forget_after = Duration::from_millis(self.options.ejection_ms_max);
        match self.ejected {
            Some((until, _)) if until <= now => {
                self.ejected = None;
                self.up_since = now;
                self.quiet_since = now;
                self.forget_errors();
                true
            }
            Some(_) => false,
            None => {
                if self.ejections > 0 && now.duration_since(self.quiet_since) >= forget_after {
                    self.ejections -= 1;
                    self.quiet_since = now;
                }
                false
            }
        }
    }

    /// Whether it is ejected, be it down or not.
    pub fn is_ejected(&self) -> bool {
        self.ejected.is_some()
    }

    /// Whether errors in a row are being counted, which an ordinary answer would end.
    pub fn counts_errors(&self) -> bool {
        self.connect_errors > 0 || self.answer_errors > 0
    }

    fn eject(&mut self, cause: EjectionCause, may_eject: bool, now: Instant) -> bool {
        if !may_eject || self.ejected.is_some() {
            return false;
        }
        let doublings = self.ejections.min(16);
        let ms = self.options.ejection_ms.saturating_mul(1 << doublings);
        let ms = ms.min(self.options.ejection_ms_max);
        self.ejected = Some((now + Duration::from_millis(ms), cause));
        self.ejections += 1;
        true
    }

    fn forget_errors(&mut self) {
        self.connect_errors = 0;
        self.answer_errors = 0;
        self.slow_windows = 0;
    }

    fn share(&self, now: Instant) -> f64 {
        let up = now.duration_since(self.up_since).as_secs_f64();
        let slow_start = Duration::from_millis(self.options.slow_start_ms).as_secs_f64();
        if up >= slow_start { 1.0 } else { (up / slow_start).max(SLOW_START_SHARE_MIN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> (Health, Instant) {
        let now = Instant::now();
        (Health::new(HealthOptions::default(), now), now)
    }

    fn up() -> (Health, Instant) {
        let (mut health, now) = health();
        health.on_check(true, now);
        let now = now + Duration::from_secs(3600);
        (health, now)
    }

    #[test]
    fn the_first_check_is_believed_and_later_ones_must_agree() {
        let (mut health, now) = health();
        assert_eq!(health.standing(now), Standing::Unknown);
        health.on_check(false, now);
        assert_eq!(health.standing(now), Standing::Down);
        health.on_check(true, now);
        assert_eq!(health.standing(now), Standing::Down);
        health.on_check(false, now);
        health.on_check(true, now);
        assert_eq!(health.standing(now), Standing::Down, "two in a row are needed");
        health.on_check(true, now);
        assert!(matches!(health.standing(now), Standing::Up(_)));
    }

    #[test]
    fn checks_come_quicker_while_in_doubt() {
        let (mut health, now) = up();
        let calm = health.check_in();
        health.on_check(false, now);
        assert!(health.check_in() < calm);
        health.on_check(false, now);
        assert_eq!(health.check_in(), calm, "down for sure is no doubt");
    }

    #[test]
    fn a_silent_backend_is_down_within_two_seconds() {
        let options = HealthOptions::default();
        let first = options.check_interval_ms * 11 / 10 + options.check_timeout_ms;
        let rest = u64::from(options.checks_failed - 1)
            * (options.check_doubt_ms * 11 / 10 + options.check_timeout_ms);
        assert!(first + rest < 2_000, "{first} + {rest} ms");
    }

    #[test]
    fn errors_in_a_row_eject_and_an_answer_between_them_does_not() {
        let (mut health, now) = up();
        for _ in 0..4 {
            assert!(!health.on_outcome(Outcome::AnswerFailed, true, now));
        }
        health.on_outcome(Outcome::Answered, true, now);
        for _ in 0..4 {
            assert!(!health.on_outcome(Outcome::AnswerFailed, true, now));
        }
        assert!(health.on_outcome(Outcome::AnswerFailed, true, now));
        assert_eq!(health.standing(now), Standing::Ejected(EjectionCause::Errors));
    }

    #[test]
    fn nothing_is_ejected_that_may_not_be() {
        let (mut health, now) = up();
        for _ in 0..100 {
            assert!(!health.on_outcome(Outcome::ConnectFailed, false, now));
        }
        assert_eq!(health.standing(now), Standing::Up(1.0));
    }

    #[test]
    fn ejections_grow_longer_up_to_a_limit_and_are_forgotten_in_quiet_times() {
        let (mut health, mut now) = up();
        let mut lasted = Vec::new();
        for _ in 0..8 {
            assert!(
                health.on_outcome(Outcome::ConnectFailed, true, now)
                    || health.on_outcome(Outcome::ConnectFailed, true, now)
            );
            let began = now;
            while !health.on_time(now) {
                now += Duration::from_millis(500);
            }
            lasted.push(now.duration_since(began).as_secs());
        }
        assert_eq!(lasted, [1, 2, 4, 8, 16, 32, 60, 60]);
        for _ in 0..8 {
            now += Duration::from_secs(60);
            health.on_time(now);
        }
        health.on_outcome(Outcome::ConnectFailed, true, now);
        assert!(health.on_outcome(Outcome::ConnectFailed, true, now));
        assert!(health.on_time(now + Duration::from_secs(1)), "as if it were the first");
    }

    #[test]
    fn a_backend_that_comes_back_starts_slowly() {
        let (mut health, now) = up();
        health.on_check(false, now);
        health.on_check(false, now);
        health.on_check(true, now);
        health.on_check(true, now);
        let share = |ms| match health.standing(now + Duration::from_millis(ms)) {
            Standing::Up(share) => share,
            standing => panic!("{standing:?}"),
        };
        assert_eq!(share(0), 0.1);
        assert_eq!(share(2_500), 0.5);
        assert_eq!(share(5_000), 1.0);
    }

    #[test]
    fn slow_windows_eject_only_in_a_row() {
        let (mut health, now) = up();
        assert!(!health.on_window(Window::Slow, true, now));
        assert!(!health.on_window(Window::Slow, true, now));
        assert!(!health.on_window(Window::Ordinary, true, now));
        assert!(!health.on_window(Window::Slow, true, now));
        assert!(!health.on_window(Window::Slow, true, now));
        assert!(health.on_window(Window::Slow, true, now));
        assert_eq!(health.standing(now), Standing::Ejected(EjectionCause::Slow));
    }
}
