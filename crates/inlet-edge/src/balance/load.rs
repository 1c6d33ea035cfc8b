//! How much a backend has to do, and how long it takes lately.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A backend's load, and all else that each request writes, close together so that a thread that
/// takes it from another takes it once: requests outstanding, and the peak-sensitive moving average of its response
/// times. The average jumps up with a slow answer and comes down slowly, and it comes down with
/// time alone, so that a backend that was slow is tried again.
#[derive(Debug)]
pub(crate) struct Load {
    outstanding: AtomicUsize,
    /// The average in microseconds (an `f32`) in the upper half, when it was taken in milliseconds
    /// in the lower. Two answers at one moment may overwrite each other, which costs a sample.
    average: AtomicU64,
    /// How many requests went out since the beginning.
    requests: AtomicU64,
    /// How many were over in this window, and their response times together in microseconds.
    window_answers: AtomicU32,
    window_latency_us: AtomicU64,
    decay_ms: f32,
    floor_us: f32,
}

impl Load {
    /// No load. `decay_ms` is the time constant of the average; below `floor_us` all are equal.
    pub(crate) fn new(decay_ms: u64, floor_us: u64) -> Self {
        Self {
            outstanding: AtomicUsize::new(0),
            average: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            window_answers: AtomicU32::new(0),
            window_latency_us: AtomicU64::new(0),
            decay_ms: (decay_ms as f32).max(1.0),
            floor_us: (floor_us as f32).max(1.0),
        }
    }

    /// Counts a request that goes out.
    pub(crate) fn begin(&self) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that went out since the beginning.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Counts one in this window, be it answered or not.
    pub(crate) fn count(&self, latency_us: u64) {
        self.window_answers.fetch_add(1, Ordering::Relaxed);
        self.window_latency_us.fetch_add(latency_us, Ordering::Relaxed);
    }

    /// Ends the window, and gives how many were counted in it and how long they took together.
    pub(crate) fn take_window(&self) -> (u32, u64) {
        let answers = self.window_answers.swap(0, Ordering::Relaxed);
        (answers, self.window_latency_us.swap(0, Ordering::Relaxed))
    }

    /// Counts a request that is over.
    pub(crate) fn end(&self) {
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests that went out and are not over.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Takes a response time. `now_ms` counts from any fixed moment.
    pub(crate) fn observe(&self, latency_us: u64, now_ms: u32) {
        let (average, then_ms) = unpack(self.average.load(Ordering::Relaxed));
        let latency = latency_us as f32;
        let next = if latency > average {
            latency
        } else {
            let kept = self.kept(then_ms, now_ms);
            average * kept + latency * (1.0 - kept)
        };
        self.average.store(pack(next, now_ms), Ordering::Relaxed);
    }

    /// The average response time at `now_ms`, in microseconds.
    pub(crate) fn latency_us(&self, now_ms: u32) -> f32 {
        let (average, then_ms) = unpack(self.average.load(Ordering::Relaxed));
        average * self.kept(then_ms, now_ms)
    }

    /// What backends are compared by.
    pub(crate) fn score(&self, now_ms: u32) -> f64 {
        let latency = f64::from(self.latency_us(now_ms).max(self.floor_us));
        latency * (self.outstanding() as f64 + 1.0)
    }

    /// How much of an average of `then_ms` is left at `now_ms`.
    fn kept(&self, then_ms: u32, now_ms: u32) -> f32 {
        let passed = now_ms.wrapping_sub(then_ms);
        // Clocks of two threads may disagree by a little: that is no time at all, not 49 days.
        if passed == 0 || passed > u32::MAX / 2 {
            1.0
        } else {
            (-(passed as f32) / self.decay_ms).exp()
        }
    }
}

fn pack(average: f32, now_ms: u32) -> u64 {
    u64::from(average.to_bits()) << 32 | u64::from(now_ms)
}

fn unpack(packed: u64) -> (f32, u32) {
    let upper = u32::try_from(packed >> 32).expect("32 bits are left");
    let lower = u32::try_from(packed & u64::from(u32::MAX)).expect("32 bits are left");
    (f32::from_bits(upper), lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let load = Load::new(10_000, 100);
        load.observe(1_000, 0);
        load.observe(50_000, 1);
        assert_eq!(load.latency_us(1), 50_000.0);
        load.observe(1_000, 1_001);
        assert!(load.latency_us(1_001) > 40_000.0);
        assert!(load.latency_us(60_000) < 200.0, "time alone brings it down");
    }

    #[test]
    fn the_score_grows_with_what_is_outstanding() {
        let load = Load::new(10_000, 2_000);
        assert_eq!(load.score(0), 2_000.0, "the floor");
        load.begin();
        load.begin();
        assert_eq!(load.score(0), 6_000.0);
        load.end();
        assert_eq!(load.outstanding(), 1);
    }

    #[test]
    fn a_clock_that_steps_back_forgets_nothing() {
        let load = Load::new(10_000, 100);
        load.observe(5_000, 1_000);
        assert_eq!(load.latency_us(990), 5_000.0);
    }
}
