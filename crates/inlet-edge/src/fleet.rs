//! All backends, and which of them are asked at the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::backend::{Asking, Backend};
use crate::balance::choose;
use crate::health::Standing;
use crate::options::BalanceOptions;
use crate::padded::Padded;

/// The backends, in an order that changes with what is known of them. Requests read one
/// [`Seating`] after another without a lock.
pub(crate) struct Fleet {
    zone: Option<String>,
    balance: BalanceOptions,
    seating: ArcSwap<Seating>,
    /// One more for each request; retries take the turn of their request.
    turn: Padded<AtomicUsize>,
}

/// Who is asked at the moment.
#[derive(Default)]
pub(crate) struct Seating {
    /// All of them, whether they are asked or not.
    pub(crate) all: Vec<Arc<Backend>>,
    near: Vec<Arc<Backend>>,
    far: Vec<Arc<Backend>>,
    /// Whether none is up, so that those are asked that may be.
    pub(crate) is_failing_open: bool,
    /// How many are up.
    pub(crate) up: usize,
    /// How many are ejected.
    pub(crate) ejected: usize,
}

impl Fleet {
    pub(crate) fn new(zone: Option<String>, balance: BalanceOptions) -> Self {
        let seating = ArcSwap::from_pointee(Seating::default());
        Self { zone, balance, seating, turn: Padded::default() }
    }

    pub(crate) fn seating(&self) -> Arc<Seating> {
        self.seating.load_full()
    }

    /// A backend for a request that was sent to those in `tried` before. When none is up it is one
    /// that is not known to be down, and when there is none of those either, any.
    pub(crate) fn choose(&self, now_ms: u32, tried: &[Arc<Backend>]) -> Option<Arc<Backend>> {
        let seating = self.seating.load();
        let asking = Asking { now_ms, tried };
        let turn = if tried.is_empty() {
            self.turn.fetch_add(1, Ordering::Relaxed)
        } else {
            self.turn.load(Ordering::Relaxed)
        };
        let Seating { near, far, .. } = &**seating;
        let index = choose(near, far, &asking, turn, &self.balance, rand::random::<f64>)?;
        near.get(index).or_else(|| far.get(index - near.len())).cloned()
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> usize {
        self.turn.load(Ordering::Relaxed)
    }

    /// Puts `all` in order by how they stand at `now`.
    pub(crate) fn seat(&self, all: Vec<Arc<Backend>>, now: Instant) {
        let mut up = Vec::new();
        let mut maybe = Vec::new();
        let mut down = Vec::new();
        let mut ejected = 0;
        for backend in all.iter().filter(|backend| !backend.is_draining()) {
            match backend.refresh(now) {
                Standing::Up(_) => up.push(backend.clone()),
                Standing::Unknown => maybe.push(backend.clone()),
                Standing::Ejected(_) => {
                    ejected += 1;
                    maybe.push(backend.clone());
                }
                Standing::Down => down.push(backend.clone()),
            }
        }
        let up_count = up.len();
        let asked = [up, maybe, down].into_iter().find(|asked| !asked.is_empty());
        let (near, far) = asked.unwrap_or_default().into_iter().partition(|backend| {
            self.zone.as_ref().is_none_or(|zone| *zone == backend.options.zone)
        });
        self.seating.store(Arc::new(Seating {
            is_failing_open: up_count == 0 && !all.is_empty(),
            all,
            near,
            far,
            up: up_count,
            ejected,
        }));
    }
}
