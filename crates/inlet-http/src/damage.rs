//! Damage in the store, found by reading: reported to the health board until it is mended.
//!
//! The check that readiness asks is a cheap one, and a store with damaged pages passes it while
//! reads fail. So a read that finds damage reports it, and is asked again, ever more rarely, until
//! it and all others that found some succeed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use inlet_core::failure::{Failure, FailureKind};
use inlet_core::health::{Health, Part};
use inlet_core::ports::Store;

use crate::app::App;

/// The part of the health board that stands for reads from the store.
pub(crate) const STORE_READS: &str = "store-reads";

/// The pause before a read that found damage is asked again; it doubles each time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The longest such pause.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(300);
/// The most reads that are remembered.
const SUSPECTS_MAX: usize = 16;

type Suspect = Box<dyn Fn(Arc<dyn Store>) -> Reading + Send + Sync>;
type Reading = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// The reads that found damage, and the part that reports it.
#[derive(Default)]
pub(crate) struct Damage(Arc<Mutex<Option<Found>>>);

struct Found {
    part: Part,
    suspects: Vec<Arc<Suspect>>,
}

impl App {
    /// Reads from the store. A read that finds damage is reported, and tried again later.
    pub(crate) async fn read<T: 'static, F>(
        &self,
        read: impl Fn(Arc<dyn Store>) -> F + Send + Sync + 'static,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let outcome = read(Arc::clone(&self.store)).await;
        if let Err(failure) = &outcome
            && failure.kind() == FailureKind::Damaged
        {
            let suspect: Suspect = Box::new(move |store| {
                let reading = read(store);
                Box::pin(async move { reading.await.map(drop) })
            });
            self.state.damage.found(&self.health, &self.store, failure, suspect);
        }
        outcome
    }
}

impl Damage {
    fn found(&self, health: &Health, store: &Arc<dyn Store>, failure: &Failure, suspect: Suspect) {
        let mut found = lock(&self.0);
        let is_new = found.is_none();
        let found = found
            .get_or_insert_with(|| Found { part: health.part(STORE_READS), suspects: Vec::new() });
        found.part.degraded(failure);
        if found.suspects.len() < SUSPECTS_MAX {
            found.suspects.push(Arc::new(suspect));
        }
        if is_new {
            let (damage, store) = (Arc::downgrade(&self.0), Arc::downgrade(store));
            tokio::spawn(look_again(damage, store));
        }
    }
}

fn lock(found: &Mutex<Option<Found>>) -> MutexGuard<'_, Option<Found>> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks again what found damage, until nothing does.
async fn look_again(damage: Weak<Mutex<Option<Found>>>, store: Weak<dyn Store>) {
    let mut pause = LOOK_AGAIN;
    loop {
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(LOOK_AGAIN_MAX);
        let (Some(damage), Some(store)) = (damage.upgrade(), store.upgrade()) else { return };
        let suspects: Vec<_> =
            lock(&damage).as_ref().map_or_else(Vec::new, |found| found.suspects.clone());
        let mut still = Vec::new();
        for suspect in &suspects {
            // One that is away says nothing of its pages.
            if let Err(failure) = suspect(Arc::clone(&store)).await {
                still.push((Arc::clone(suspect), failure));
            }
        }
        let mut found = lock(&damage);
        let Some(there) = found.as_mut() else { return };
        // Those that came meanwhile are asked next time.
        there.suspects.retain(|suspect| {
            let was_asked = suspects.iter().any(|asked| Arc::ptr_eq(asked, suspect));
            !was_asked || still.iter().any(|(asked, _)| Arc::ptr_eq(asked, suspect))
        });
        match still.first() {
            Some((_, failure)) => there.part.degraded(failure),
            None if there.suspects.is_empty() => {
                there.part.works();
                // The part leaves the board with this.
                *found = None;
                return;
            }
            None => {}
        }
    }
}
