//! When what is late is closed.

use std::sync::Arc;
use std::time::Duration;

use crate::state::{ConnectionState, LaneState, Verdict};

/// How long a connection may take for what. Those without a word of their own are kept by a
/// sweep, and are late by up to one [`Deadlines::sweep_every`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// For the TLS handshake. Default 10 s.
    pub handshake: Duration,
    /// For silence after connecting or after the handshake. Default 10 s.
    pub first_byte: Duration,
    /// For a head, from its first byte to its last; sending slowly does not extend it.
    /// Default 10 s.
    pub head: Duration,
    /// For silence between requests. Default 75 s.
    pub idle: Duration,
    /// For silence between requests before buffers are given back. Default 3 s.
    pub rest: Duration,
    /// For a body, however small, from when it is asked for. Default 30 s.
    pub body_grace: Duration,
    /// A body has a second more for each so many bytes that have come. Default 4,096.
    pub body_bytes_per_s_min: u32,
    /// For a client that takes nothing of our answer; pauses add up. Default 30 s.
    pub write: Duration,
    /// A second less counts of those pauses for each so many bytes that the client takes.
    /// Default 4,096.
    pub write_bytes_per_s_min: u32,
    /// For reading and dropping what a refused client still sends, so that it gets to read why.
    /// Default 2 s.
    pub linger: Duration,
    /// For the first request of a connection that is new when the shutdown begins. Default 1 s.
    pub first_request: Duration,
    /// For finishing what was accepted once the shutdown has begun. Default 30 s.
    pub drain: Duration,
    /// How often connections are looked at. Default 500 ms.
    pub sweep_every: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            rest: Duration::from_secs(3),
            body_grace: Duration::from_secs(30),
            body_bytes_per_s_min: 4_096,
            write: Duration::from_secs(30),
            write_bytes_per_s_min: 4_096,
            linger: Duration::from_secs(2),
            first_request: Duration::from_secs(1),
            drain: Duration::from_secs(30),
            sweep_every: Duration::from_millis(500),
        }
    }
}

/// What a connection is at, in milliseconds of its lane's clock; 0 where it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) busy: bool,
    /// Whether anything was ever served.
    pub(crate) served: bool,
    pub(crate) http2: bool,
    pub(crate) resting: bool,
    pub(crate) quiet_since_ms: u64,
    pub(crate) head_since_ms: u64,
    pub(crate) blocked_since_ms: u64,
    /// How long it was blocked before that, less what it has made up for; not a moment.
    pub(crate) behind_ms: u64,
    /// Since when nobody asks for the pieces of answers that are there.
    pub(crate) owed_since_ms: u64,
    pub(crate) linger_since_ms: u64,
}

/// What is to be done about a connection that stands so.
pub(crate) fn judge(standing: Standing, now_ms: u64, deadlines: &Deadlines) -> Option<Verdict> {
    let past = |since_ms: u64, deadline: Duration| {
        since_ms != 0 && u128::from(now_ms.saturating_sub(since_ms)) >= deadline.as_millis()
    };
    if past(standing.linger_since_ms, deadlines.linger) {
        return Some(Verdict::Close);
    }
    let written = deadlines.write.saturating_sub(Duration::from_millis(standing.behind_ms));
    if past(standing.blocked_since_ms, written) {
        return Some(Verdict::Reset);
    }
    // With HTTP/2 a client shuts the windows of its streams and leaves the socket open.
    if standing.http2 && past(standing.owed_since_ms, deadlines.write) {
        return Some(Verdict::Reset);
    }
    if standing.busy || standing.blocked_since_ms != 0 || standing.linger_since_ms != 0 {
        return None;
    }
    if standing.head_since_ms != 0 {
        return past(standing.head_since_ms, deadlines.head).then_some(Verdict::RefuseLate);
    }
    let silence = if standing.served { deadlines.idle } else { deadlines.first_byte };
    if !past(standing.quiet_since_ms, silence) {
        let may_rest = standing.served && !standing.http2 && !standing.resting;
        let rests = may_rest && past(standing.quiet_since_ms, deadlines.rest);
        return rests.then_some(Verdict::Rest);
    }
    // A client that speaks HTTP/2 is told first, so that it sends nothing that would be lost.
    if standing.http2
        && standing.served
        && !past(standing.quiet_since_ms, silence + deadlines.write)
    {
        return Some(Verdict::Drain);
    }
    Some(Verdict::Close)
}

/// Looks at all connections of a lane, for ever.
pub(crate) async fn sweep(lane: Arc<LaneState>) {
    let mut ticks = tokio::time::interval(lane.deadlines().sweep_every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now_ms = lane.advance_clock();
        lane.drain_due(now_ms);
        lane.for_each(|connection: &ConnectionState| {
            if let Some(verdict) = judge(connection.standing(), now_ms, lane.deadlines()) {
                connection.pass(verdict);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Standing = Standing {
        busy: false,
        served: false,
        http2: false,
        resting: false,
        quiet_since_ms: 1,
        head_since_ms: 0,
        blocked_since_ms: 0,
        behind_ms: 0,
        owed_since_ms: 0,
        linger_since_ms: 0,
    };

    fn after(standing: Standing, seconds: u64) -> Option<Verdict> {
        judge(standing, 1 + seconds * 1000, &Deadlines::default())
    }

    #[test]
    fn silence_is_borne_longer_between_requests_than_before_the_first() {
        assert_eq!(after(FRESH, 9), None);
        assert_eq!(after(FRESH, 10), Some(Verdict::Close));
        let idle = Standing { served: true, ..FRESH };
        assert_eq!(after(idle, 2), None);
        assert_eq!(after(idle, 3), Some(Verdict::Rest));
        assert_eq!(after(Standing { resting: true, ..idle }, 74), None);
        assert_eq!(after(idle, 75), Some(Verdict::Close));
    }

    #[test]
    fn a_head_has_ten_seconds_in_all() {
        let head = Standing { served: true, head_since_ms: 1, quiet_since_ms: 9_000, ..FRESH };
        assert_eq!(after(head, 9), None);
        assert_eq!(after(head, 10), Some(Verdict::RefuseLate));
    }

    #[test]
    fn a_request_being_handled_is_left_alone_and_a_client_that_does_not_read_is_not() {
        let busy = Standing { busy: true, ..FRESH };
        assert_eq!(after(busy, 3600), None);
        assert_eq!(after(Standing { blocked_since_ms: 1, ..busy }, 30), Some(Verdict::Reset));
        let writing = Standing { served: true, blocked_since_ms: 90_000, ..FRESH };
        assert_eq!(after(writing, 100), None, "a slow reader is not idle");
    }

    #[test]
    fn pauses_of_a_client_that_takes_a_little_now_and_then_add_up() {
        let blocked = Standing { busy: true, blocked_since_ms: 1, behind_ms: 25_000, ..FRESH };
        assert_eq!(after(blocked, 4), None);
        assert_eq!(after(blocked, 5), Some(Verdict::Reset));
        let unblocked = Standing { blocked_since_ms: 0, behind_ms: 60_000, ..blocked };
        assert_eq!(after(unblocked, 600), None, "it waits for us");
    }

    #[test]
    fn a_client_of_http2_that_shuts_its_windows_is_not_waited_for() {
        let shut = Standing { busy: true, http2: true, owed_since_ms: 1, ..FRESH };
        assert_eq!(after(shut, 29), None);
        assert_eq!(after(shut, 30), Some(Verdict::Reset));
        let http1 = Standing { http2: false, ..shut };
        assert_eq!(after(http1, 600), None, "its socket tells");
    }

    #[test]
    fn http2_is_told_before_it_is_closed() {
        let idle = Standing { served: true, http2: true, ..FRESH };
        assert_eq!(after(idle, 75), Some(Verdict::Drain));
        assert_eq!(after(idle, 105), Some(Verdict::Close));
    }
}
