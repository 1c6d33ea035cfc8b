//! A value that everybody asks for and one task at a time looks up.
//!
//! Health checks and the landing page need no token, so they must be no way to keep an engine
//! busy; and a balancer that waits for one that hangs takes the instance out of service.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The longest time a look-up may take before it is given up.
const LOOK_UP_MAX: Duration = Duration::from_secs(2);
/// The longest time somebody who wants a figure waits for one; shorter than the usual checks of
/// balancers.
pub(crate) const FIGURE_WAIT_MAX: Duration = Duration::from_millis(500);

/// The value as it was a moment ago.
#[derive(Debug)]
pub(crate) struct Recent<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    ended: Notify,
}

#[derive(Debug)]
struct State<T> {
    value: Option<(Instant, T)>,
    is_looking: bool,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        let state = Mutex::new(State { value: None, is_looking: false });
        Self(Arc::new(Shared { state, ended: Notify::new() }))
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Send + 'static> Recent<T> {
    /// The value, at most `age_max` old. `None` where it is not here within `wait_max`; the look-up
    /// goes on for those who ask later.
    pub(crate) async fn get(
        &self,
        age_max: Duration,
        wait_max: Duration,
        look_up: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let mut ended = std::pin::pin!(self.0.ended.notified());
        // From here on an end is not missed.
        ended.as_mut().enable();
        {
            let mut state = self.0.state();
            match &state.value {
                Some((at, value)) if at.elapsed() < age_max => return Some(value.clone()),
                _ => {}
            }
            if !std::mem::replace(&mut state.is_looking, true) {
                tokio::spawn(look(Ending(Arc::clone(&self.0)), look_up));
            }
        }
        tokio::time::timeout(wait_max, ended).await.ok()?;
        // A look-up that was given up leaves the value before it, which is too old.
        let state = self.0.state();
        let (at, value) = state.value.as_ref()?;
        (at.elapsed() < age_max.max(wait_max)).then(|| value.clone())
    }

    /// The value of the last look-up, however old.
    pub(crate) fn last(&self) -> Option<T> {
        self.0.state().value.as_ref().map(|(_, value)| value.clone())
    }
}

async fn look<T>(ending: Ending<T>, look_up: impl Future<Output = T>) {
    if let Ok(value) = tokio::time::timeout(LOOK_UP_MAX, look_up).await {
        ending.0.state().value = Some((Instant::now(), value));
    }
}

/// Lets the next one look, also where this one panicked.
struct Ending<T>(Arc<Shared<T>>);

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        self.0.state().is_looking = false;
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn many_who_ask_at_once_get_the_value_of_one_look_up() {
        let recent = Recent::default();
        let looked = Arc::new(AtomicU32::new(0));
        let look = |looked: &Arc<AtomicU32>| {
            let looked = Arc::clone(looked);
            async move {
                tokio::task::yield_now().await;
                looked.fetch_add(1, Relaxed)
            }
        };
        let (one, two) = tokio::join!(
            recent.get(HOUR, FIGURE_WAIT_MAX, look(&looked)),
            recent.get(HOUR, FIGURE_WAIT_MAX, look(&looked))
        );
        assert_eq!((one, two), (Some(0), Some(0)));
        assert_eq!(recent.get(HOUR, FIGURE_WAIT_MAX, look(&looked)).await, Some(0), "it is fresh");
        assert_eq!(recent.get(Duration::ZERO, FIGURE_WAIT_MAX, look(&looked)).await, Some(1));
        assert_eq!(recent.last(), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_that_hangs_is_waited_for_half_a_second_and_given_up_after_two() {
        let recent: Recent<u32> = Recent::default();
        let begun = tokio::time::Instant::now();
        assert_eq!(recent.get(HOUR, FIGURE_WAIT_MAX, std::future::pending()).await, None);
        assert_eq!(begun.elapsed(), FIGURE_WAIT_MAX);
        // It still looks, and nobody else begins.
        assert_eq!(recent.get(HOUR, FIGURE_WAIT_MAX, async { 7 }).await, None);
        tokio::time::sleep(LOOK_UP_MAX).await;
        assert_eq!(recent.get(HOUR, FIGURE_WAIT_MAX, async { 8 }).await, Some(8));
    }
}
