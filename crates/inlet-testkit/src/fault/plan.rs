//! Which calls fail.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inlet_core::failure::{Failure, FailureKind};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

/// On which side of the effect a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Nothing happened.
    Before,
    /// All happened.
    After,
}

/// Which calls of a decorated port fail. A clone steers the same decorator. Without a plan none
/// fails.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>, watch::Sender<bool>);

/// What becomes of one call.
pub(super) enum Fault {
    /// It fails before its effect, with this kind.
    Before(FailureKind),
    /// It fails after its effect.
    After,
    /// It panics before its effect.
    Panic,
}

impl From<When> for Fault {
    fn from(when: When) -> Self {
        match when {
            When::Before => Self::Before(FailureKind::Unavailable),
            When::After => Self::After,
        }
    }
}

#[derive(Default)]
struct Plan {
    calls: u64,
    planned: Vec<(u64, When)>,
    failing: Option<FailureKind>,
    panicking: bool,
    random: Option<(StdRng, u32)>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("calls", &self.calls).field("failing", &self.failing).finish()
    }
}

impl Faults {
    /// The `nth` call from now fails; 1 is the next one.
    pub fn fail_nth(&self, nth: u64, when: When) {
        let mut plan = self.plan();
        let call = plan.calls + nth;
        plan.planned.push((call, when));
    }

    /// Every call fails before its effect until the engine is back.
    pub fn set_away(&self, away: bool) {
        self.set_failing(away.then_some(FailureKind::Unavailable));
    }

    /// Every call fails before its effect with this kind; none does with `None`.
    pub fn set_failing(&self, kind: Option<FailureKind>) {
        self.plan().failing = kind;
    }

    /// Every call panics before its effect, until it is set back.
    pub fn set_panicking(&self, panicking: bool) {
        self.plan().panicking = panicking;
    }

    /// Every call hangs, as calls to a frozen engine do, until it is told otherwise.
    pub fn set_hanging(&self, hangs: bool) {
        self.1.send_replace(hangs);
    }

    /// Returns once calls do not hang.
    pub(super) async fn pass(&self) {
        let mut hangs = self.1.subscribe();
        if hangs.wait_for(|hangs| !hangs).await.is_err() {
            // The sender is this one's own, so it is there.
            unreachable!("the plan is gone");
        }
    }

    /// Calls fail at random, one in `one_in` of them, on either side; the same seed gives the
    /// same faults.
    pub fn fail_at_random(&self, seed: u64, one_in: u32) {
        self.plan().random = Some((StdRng::seed_from_u64(seed), one_in));
    }

    /// No call fails any more.
    pub fn clear(&self) {
        let mut plan = self.plan();
        *plan = Plan { calls: plan.calls, ..Plan::default() };
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.plan().calls
    }

    /// Counts a call, and decides how it fails, if it does.
    pub(super) fn next(&self) -> Option<Fault> {
        let mut plan = self.plan();
        plan.calls += 1;
        let call = plan.calls;
        if let Some(at) = plan.planned.iter().position(|(planned, _)| *planned == call) {
            return Some(plan.planned.swap_remove(at).1.into());
        }
        if plan.panicking {
            return Some(Fault::Panic);
        }
        if let Some(kind) = plan.failing {
            return Some(Fault::Before(kind));
        }
        let (random, one_in) = plan.random.as_mut()?;
        let hit = random.random_range(0..*one_in) == 0;
        let when = if random.random_range(0..2) == 0 { When::Before } else { When::After };
        hit.then_some(when.into())
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failure a test asked for.
pub(super) fn failure(kind: FailureKind, attempted: &'static str) -> Failure {
    Failure::new(kind, attempted, "an engine that was told to fail")
}

/// Runs the call, and lets it fail as the plan says.
macro_rules! with_fault {
    ($faults:expr, $attempted:literal, $call:expr) => {{
        $faults.pass().await;
        match $faults.next() {
            Some($crate::fault::plan::Fault::Before(kind)) => {
                Err($crate::fault::plan::failure(kind, $attempted))
            }
            Some($crate::fault::plan::Fault::After) => {
                $call?;
                let kind = inlet_core::failure::FailureKind::Unavailable;
                Err($crate::fault::plan::failure(kind, $attempted))
            }
            Some($crate::fault::plan::Fault::Panic) => {
                panic!("an engine that was told to panic")
            }
            None => $call,
        }
    }};
}

pub(super) use with_fault;
