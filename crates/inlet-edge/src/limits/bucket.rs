//! A bucket that is refilled at a rate.

use std::time::Instant;

use super::plans::Plan;

/// The seconds of a day.
const DAY_S: f64 = 86_400.0;

/// What a bucket holds at most, and how fast it is refilled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) burst: f64,
    pub(crate) per_second: f64,
}

impl Quota {
    pub(crate) fn requests(plan: &Plan) -> Self {
        Self {
            burst: f64::from(plan.requests_burst()),
            per_second: f64::from(plan.requests_per_second()),
        }
    }

    pub(crate) fn bytes(plan: &Plan) -> Option<Self> {
        let burst = plan.bytes_per_day()? as f64;
        Some(Self { burst, per_second: burst / DAY_S })
    }
}

/// What was taken out of a bucket and has not been refilled yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    taken: f64,
    refilled: Option<Instant>,
}

impl Bucket {
    /// Lets time pass.
    pub(crate) fn refill(&mut self, quota: Quota, now: Instant) {
        if let Some(then) = self.refilled {
            let passed = now.saturating_duration_since(then).as_secs_f64();
            self.taken = (self.taken - passed * quota.per_second).max(0.0);
        }
        self.refilled = Some(self.refilled.map_or(now, |then| then.max(now)));
    }

    /// In how many seconds `amount` can be taken; 0 where it can be now.
    pub(crate) fn wait_s(&self, quota: Quota, amount: f64) -> f64 {
        let missing = self.taken + amount - quota.burst;
        // Refilling in steps leaves rounding errors far below a request or a byte.
        if missing <= 1e-6 { 0.0 } else { missing / quota.per_second.max(1e-9) }
    }

    /// Takes `amount`, or nothing, where it is not there; then in how many whole seconds it is.
    pub(crate) fn take(&mut self, quota: Quota, amount: f64, now: Instant) -> Result<(), u32> {
        self.refill(quota, now);
        let wait_s = self.wait_s(quota, amount);
        if wait_s > 0.0 {
            return Err(whole_seconds(wait_s));
        }
        self.owe(amount);
        Ok(())
    }

    /// Takes `amount`, be it there or not.
    pub(crate) fn owe(&mut self, amount: f64) {
        self.taken += amount;
    }

    /// How many whole ones are left.
    pub(crate) fn left(&self, quota: Quota) -> u32 {
        // A cast from a float saturates at both ends.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let left = (quota.burst - self.taken + 1e-6) as u32;
        left
    }
}

/// Seconds, rounded up, at least one.
pub(crate) fn whole_seconds(seconds: f64) -> u32 {
    // A cast from a float saturates, and a wait is never negative.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    let whole = (seconds - 1e-6).ceil() as u32;
    whole.max(1)
}
