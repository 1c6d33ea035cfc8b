//! Time limits of connections, and the two rules that need more than a moment: the pace of a body
//! and of a reader.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Time limits of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// TLS handshake. Default 10 s.
    pub handshake: Duration,
    /// Silence after connecting, or after the handshake. Default 10 s.
    pub first_byte: Duration,
    /// A head, from its first byte to its last; sending slowly does not extend it.
    /// Default 10 s.
    pub head: Duration,
    /// Silence between requests. Default 620 s: longer than the clients and balancers that keep
    /// connections for reuse do, the longest of which keep them for 600 s. A connection that its
    /// server closes first costs such a client a failed request.
    pub idle: Duration,
    /// Silence between requests until buffers are given back. Default 3 s.
    pub rest: Duration,
    /// Waiting for a body, at a stretch and, with [`Deadlines::body_bytes_per_s_min`], in all.
    /// Default 30 s.
    pub body_grace: Duration,
    /// Minimum upload rate beyond the grace period, in bytes per second. Default 4,096.
    pub body_bytes_per_s_min: u32,
    /// Waiting for a client to take more of an answer; pauses add up. Default 30 s.
    pub write: Duration,
    /// Download rate that makes up for pauses, in bytes per second. Default 4,096.
    pub write_bytes_per_s_min: u32,
    /// Waiting for the rest of a small body that nobody reads, before the answer, so that the
    /// connection can be used again. Default 1 s.
    pub discard: Duration,
    /// Reading and dropping what a refused client still sends, so that it gets to read the answer.
    /// Default 2 s.
    pub linger: Duration,
    /// From the beginning of a shutdown, the wait for a request, a handshake or a head that was
    /// under way. Default 1 s.
    pub first_request: Duration,
    /// From the beginning of a shutdown, the wait for everything that was accepted.
    /// Default 30 s.
    pub drain: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(620),
            rest: Duration::from_secs(3),
            body_grace: Duration::from_secs(30),
            body_bytes_per_s_min: 4_096,
            write: Duration::from_secs(30),
            write_bytes_per_s_min: 4_096,
            discard: Duration::from_secs(1),
            linger: Duration::from_secs(2),
            first_request: Duration::from_secs(1),
            drain: Duration::from_secs(30),
        }
    }
}

/// The pace of a body: a client may be waited for [`Deadlines::body_grace`] in all and a second
/// more for each [`Deadlines::body_bytes_per_s_min`] that have come, and at a stretch never longer
/// than the grace. Only the time counts in which more was asked for and not there, so that no
/// client is late whose body is read slowly.
#[derive(Debug)]
pub(crate) struct Pace {
    grace: Duration,
    bytes_per_s_min: u64,
    bytes: u64,
    /// Before the wait that is under way.
    waited: Duration,
    waiting_since: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(deadlines: &Deadlines) -> Self {
        Self {
            grace: deadlines.body_grace,
            bytes_per_s_min: u64::from(deadlines.body_bytes_per_s_min.max(1)),
            bytes: 0,
            waited: Duration::ZERO,
            waiting_since: None,
        }
    }

    /// Notes that so many bytes came.
    pub(crate) fn came(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Notes that more is waited for.
    pub(crate) fn wait(&mut self) {
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    /// The time at which the client is late, if it is waited for.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let earned = Duration::from_secs(self.bytes / self.bytes_per_s_min);
        let left = (self.grace + earned).saturating_sub(self.waited);
        self.waiting_since.map(|since| since + left.min(self.grace))
    }
}

/// A pace with a timer of its own, for a body that its connection does not watch.
#[derive(Debug)]
pub(crate) struct PaceTimer {
    pace: Pace,
    /// Made when the body is first waited for: nearly always it is there with its head. It goes
    /// off at the deadline, or before it, and is then set anew.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl PaceTimer {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, sleep: None }
    }

    pub(crate) fn came(&mut self, bytes: usize) {
        self.pace.came(bytes);
    }

    /// Ready once the client is late.
    pub(crate) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.pace.wait();
        let Some(deadline) = self.pace.deadline() else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// The pace of a client that reads: the time in which it takes nothing adds up over an answer, and
/// what it takes is set against that, at [`Deadlines::write_bytes_per_s_min`]. Otherwise a client
/// that takes a byte now and then could have an answer held for it without end.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    blocked_since: Option<Instant>,
    /// The bytes that the client had acknowledged when that was looked at last.
    acknowledged: Option<u64>,
    /// Before the pause that is under way.
    behind: Duration,
}

impl Stall {
    /// Notes that the client takes nothing, and what it has acknowledged so far.
    pub(crate) fn blocked(&mut self, acknowledged: impl FnOnce() -> Option<u64>) {
        if self.blocked_since.is_none() {
            self.blocked_since = Some(Instant::now());
            if self.behind.is_zero() {
                self.acknowledged = acknowledged();
            }
        }
    }

    /// Notes that so many bytes could be sent. The client took those that it has acknowledged since;
    /// the others lie in buffers, which grow by themselves. All count if that is not known.
    pub(crate) fn sent(
        &mut self,
        bytes: usize,
        acknowledged: impl FnOnce() -> Option<u64>,
        deadlines: &Deadlines,
    ) {
        if self.blocked_since.is_none() && self.behind.is_zero() {
            return;
        }
        let before = std::mem::replace(&mut self.acknowledged, acknowledged());
        let taken = match (before, self.acknowledged) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => bytes as u64,
        };
        if let Some(since) = self.blocked_since.take() {
            self.behind += since.elapsed();
        }
        let rate = u64::from(deadlines.write_bytes_per_s_min.max(1));
        let made_up = Duration::from_millis(taken.saturating_mul(1_000) / rate);
        self.behind = self.behind.saturating_sub(made_up);
    }

    /// The moment at which the client is given up if it takes nothing.
    pub(crate) fn deadline(&self, deadlines: &Deadlines) -> Option<Instant> {
        self.blocked_since.map(|since| since + deadlines.write.saturating_sub(self.behind))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_body_has_its_grace_and_a_second_more_for_what_has_come() {
        let mut pace = Pace::new(&Deadlines::default());
        assert_eq!(pace.deadline(), None, "nobody waits for it");
        pace.wait();
        assert_eq!(pace.deadline(), Some(Instant::now() + 30 * SECOND));
        advance(20 * SECOND).await;
        pace.came(4_096 * 5);
        assert_eq!(pace.deadline(), None);
        advance(600 * SECOND).await;
        pace.wait();
        assert_eq!(pace.deadline(), Some(Instant::now() + 15 * SECOND), "30 + 5 - 20");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_not_waited_for_longer_than_its_grace_at_a_stretch() {
        let mut pace = Pace::new(&Deadlines::default());
        pace.came(100 << 20);
        pace.wait();
        assert_eq!(pace.deadline(), Some(Instant::now() + 30 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_of_a_client_that_takes_a_little_now_and_then_add_up() {
        let deadlines = Deadlines::default();
        let mut stall = Stall::default();
        let unknown = || None;
        stall.sent(1, unknown, &deadlines);
        assert_eq!(stall.deadline(&deadlines), None);
        stall.blocked(unknown);
        assert_eq!(stall.deadline(&deadlines), Some(Instant::now() + 30 * SECOND));
        advance(25 * SECOND).await;
        stall.sent(1, unknown, &deadlines);
        assert_eq!(stall.deadline(&deadlines), None, "it waits for us");
        advance(600 * SECOND).await;
        stall.blocked(unknown);
        assert_eq!(stall.deadline(&deadlines), Some(Instant::now() + 5 * SECOND));
        stall.sent(4_096 * 10, unknown, &deadlines);
        stall.blocked(unknown);
        assert_eq!(stall.deadline(&deadlines), Some(Instant::now() + 15 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_in_buffers_make_up_for_nothing_until_the_client_has_them() {
        let deadlines = Deadlines::default();
        let mut stall = Stall::default();
        stall.blocked(|| Some(100_000));
        advance(10 * SECOND).await;
        // 64 KiB more fit in, though the client took 4 KiB only.
        stall.sent(65_536, || Some(100_000 + 4_096), &deadlines);
        stall.blocked(|| None);
        assert_eq!(stall.deadline(&deadlines), Some(Instant::now() + 21 * SECOND));
        // Later it takes what lies there, and that counts.
        advance(SECOND).await;
        stall.sent(1, || Some(100_000 + 4_096 * 3), &deadlines);
        stall.blocked(|| None);
        assert_eq!(stall.deadline(&deadlines), Some(Instant::now() + 22 * SECOND));
    }
}
