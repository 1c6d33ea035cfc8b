//! When a request may be sent a second time: only where nothing can be done twice.
//!
//! | what happened | may be sent again |
//! | --- | --- |
//! | no connection could be made, or not one byte was written | always |
//! | bytes were written, and no answer came | idempotent methods (RFC 9110), and requests whose route and key or id make a second one the same as the first |
//! | an answer came, be it an error or broken off in the middle | never |
//!
//! In each case the body must be there still: it was kept whole, or nothing of it was read. And
//! retries must not make a bad hour worse, so a [`Budget`] holds them to a share of the requests.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use http::Method;

use crate::options::RetryOptions;

/// How far a request got before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not one byte of it was written.
    Unsent,
    /// Some of it was written, and no answer came.
    Sent,
}

/// Whether a request that got this far may be sent again, budget and attempts aside. `keyed` says
/// that its route and key make a second one harmless.
pub(crate) fn is_safe(progress: Progress, method: &Method, keyed: bool) -> bool {
    match progress {
        Progress::Unsent => true,
        Progress::Sent => keyed || method.is_idempotent(),
    }
}

/// What may be spent on retries: a share of the requests, and a few a second besides.
#[derive(Debug)]
pub(crate) struct Budget {
    share: f64,
    per_second: f64,
    reserve: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    retries: f64,
    requests: usize,
    filled: Instant,
}

impl Budget {
    /// A budget that is full at `now`.
    pub(crate) fn new(options: &RetryOptions, now: Instant) -> Self {
        let reserve = f64::from(options.budget_reserve);
        Self {
            share: options.budget_share,
            per_second: f64::from(options.budget_per_second),
            reserve,
            state: Mutex::new(State { retries: reserve, requests: 0, filled: now }),
        }
    }

    /// Takes one retry, if there is one. `requests` is how many there were so far; they are counted
    /// elsewhere anyway, so that those that go well need not come by here.
    pub(crate) fn withdraw(&self, requests: usize, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let more = requests.saturating_sub(state.requests) as f64;
        let passed = now.saturating_duration_since(state.filled).as_secs_f64();
        let earned = more * self.share + passed * self.per_second;
        state.requests = state.requests.max(requests);
        state.filled = now;
        state.retries = (state.retries + earned).min(self.reserve);
        if state.retries < 1.0 {
            return false;
        }
        state.retries -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_written_is_repeated_only_where_nothing_is_done_twice() {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert!(is_safe(Progress::Sent, &method, false), "{method}");
        }
        for method in [Method::POST, Method::PATCH] {
            assert!(!is_safe(Progress::Sent, &method, false), "{method}");
            assert!(is_safe(Progress::Sent, &method, true), "{method} with a key");
            assert!(is_safe(Progress::Unsent, &method, false), "{method} unsent");
        }
    }

    #[test]
    fn retries_are_a_share_of_the_requests_in_the_long_run() {
        let now = Instant::now();
        let options =
            RetryOptions { budget_reserve: 10, budget_per_second: 0, ..RetryOptions::default() };
        let budget = Budget::new(&options, now);
        let mut retries = 0;
        for requests in 1..=1000 {
            retries += u32::from(budget.withdraw(requests, now));
        }
        assert!((200..=210).contains(&retries), "{retries}: a fifth, and the reserve");
    }

    #[test]
    fn a_quiet_edge_may_retry_a_few_times_a_second() {
        let now = Instant::now();
        let options =
            RetryOptions { budget_reserve: 2, budget_per_second: 2, ..RetryOptions::default() };
        let budget = Budget::new(&options, now);
        assert!(budget.withdraw(0, now) && budget.withdraw(0, now));
        assert!(!budget.withdraw(0, now));
        assert!(budget.withdraw(0, now + Duration::from_millis(500)));
        assert!(!budget.withdraw(0, now + Duration::from_millis(500)));
    }
}
